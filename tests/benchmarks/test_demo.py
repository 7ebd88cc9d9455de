from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks.demo import RHOS, main
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.export.random_weights import random_model


def test_a_dense_checkpoint_is_refused(tmp_path: Path) -> None:
    model = random_model("r50", rho=0.0, enc_layers=1, dec_layers=1)
    checkpoint = save_official_checkpoint(model, tmp_path / "dense.pth")
    result = CliRunner().invoke(main, ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "demo")])
    assert result.exit_code == 2
    assert "dense encoder" in result.stderr


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    arguments = ["--output", str(tmp_path), "--size", "128x160", "--rounds", "1"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert "random weights" in result.stderr
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(row["rho"], row["dynamic_rho"]) for row in rows] == [
        *((rho, False) for rho in RHOS),
        *((rho, True) for rho in RHOS),
    ]
    assert (tmp_path / "r50_random_weights.pth").is_file()
    for name in ("plot.png", "detections.png"):
        assert cv2.imread(str(tmp_path / name)) is not None
