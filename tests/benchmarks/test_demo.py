"""``make demo`` with the trained model, and what it rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks import demo
from sparse_detr_deploy.benchmarks.demo import MARK, RHOS, main
from sparse_detr_deploy.benchmarks.kept_tokens import draw_kept_tokens
from sparse_detr_deploy.benchmarks.running import RunSettings, run
from sparse_detr_deploy.export.checkpoint import load_checkpoint
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.models import digits_checkpoint
from sparse_detr_deploy.training.coco import write_dataset
from sparse_detr_deploy.training.config import read_config
from sparse_detr_deploy.training.evaluation import evaluate_scenes
from sparse_detr_deploy.training.scenes import render_scene


def test_a_dense_checkpoint_is_refused(dense_model: SparseDETR, tmp_path: Path) -> None:
    checkpoint = save_official_checkpoint(dense_model, tmp_path / "dense.pth")
    arguments = ["--checkpoint", str(checkpoint), "--images", str(tmp_path), "--output", str(tmp_path / "demo")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "dense encoder" in result.stderr


def test_a_checkpoint_without_images_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--checkpoint", str(tiny_checkpoint), "--output", str(tmp_path / "demo")])
    assert result.exit_code == 2
    assert "--images" in result.stderr


def test_annotations_without_images_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--annotations", "val.json", "--output", str(tmp_path / "demo")])
    assert result.exit_code == 2
    assert "--annotations needs --images" in result.stderr


@pytest.mark.parametrize("name", ["plot.png", "results.json", "scenes/val/holiday.jpg", "thin18_rho30_160x160.onnx"])
def test_a_folder_of_somebody_else_is_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_export", lambda *arguments: pytest.fail("work was begun"))
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine")
    result = CliRunner().invoke(main, ["--output", str(tmp_path / "mine"), "--scenes", "1"])
    assert result.exit_code == 6, result.output
    assert f"holds {Path(name).parts[0]} and no {MARK}" in result.stderr
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [file]
    assert file.read_bytes() == b"mine"


def test_a_folder_of_an_earlier_demo_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But what somebody has put among its scenes stays."""

    class Begun(Exception):
        pass

    def begin(*arguments: Any) -> Any:
        raise Begun

    monkeypatch.setattr(demo, "_export", begin)
    for scenes in ("3", "2"):
        with pytest.raises(Begun):
            CliRunner().invoke(main, ["--output", str(tmp_path), "--scenes", scenes], catch_exceptions=False)
        assert len(list((tmp_path / "scenes" / "val").iterdir())) == int(scenes)
    (tmp_path / "scenes" / "val" / "holiday.jpg").write_bytes(b"mine")
    result = CliRunner().invoke(main, ["--output", str(tmp_path), "--scenes", "1"], catch_exceptions=False)
    assert result.exit_code == 6
    assert "holiday.jpg in it" in result.stderr


def test_average_precision_of_the_exported_file_is_that_of_torch(digits_artefact: ExportResult, tmp_path: Path) -> None:
    """A mistake in any stage, from the checkpoint to the boxes in pixels, shows as AP."""
    config, count = read_config(digits_checkpoint().with_suffix(".toml")), 40
    model = load_checkpoint(digits_checkpoint())
    annotations = write_dataset(tmp_path, config.scenes, "val", count, config.val_seed)
    settings = RunSettings(warmup=0, rounds=3, images=tmp_path / "val", annotations=annotations)
    accuracy = run([digits_artefact.path], settings).rows[0].accuracy
    assert accuracy is not None
    expected = evaluate_scenes(
        model, [render_scene(config.scenes, "val", config.val_seed, i) for i in range(count)], 0.3
    )
    assert accuracy["AP"] == pytest.approx(expected.values["AP"], abs=0.01)
    assert accuracy["AP"] > 0.7


def test_kept_tokens_are_bright() -> None:
    image = np.full((64, 64, 3), 200, dtype=np.uint8)
    shown = draw_kept_tokens(image, ((8, 8), (4, 4)), np.array([0, 64]))
    assert (shown[:8, :8] == 200).all()  # kept on both levels
    assert (shown[8:16, :16] == 120).all()  # on the coarse one only
    assert (shown[16:] == 40).all()
    assert (image == 200).all()


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    arguments = ["--output", str(tmp_path), "--scenes", "6", "--rounds", "1"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(row["rho"], row["dynamic_rho"]) for row in rows] == [
        *((rho, False) for rho in RHOS),
        *((rho, True) for rho in RHOS),
    ]
    assert all(row["accuracy"]["AP"] > 0.3 for row in rows)
    for name in ("plot.png", "detections.jpg"):
        assert cv2.imread(str(tmp_path / name)) is not None
