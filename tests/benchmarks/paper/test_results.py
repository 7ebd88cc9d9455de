"""The committed results are whole: raw runs of the configs in runs.toml, and figures that follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparse_detr_deploy.benchmarks.paper.figures import FIGURES, write_figures
from sparse_detr_deploy.benchmarks.paper.runs import PRETRAINING, read_runs, run_config

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "paper"
RAW = sorted((RESULTS / "runs").glob("*.json"))


def test_every_run_has_a_result() -> None:
    assert {path.name for path in RAW} >= {f"{name}_seed0.json" for name in read_runs() if name != PRETRAINING}


@pytest.mark.parametrize("path", RAW, ids=lambda path: path.stem)
def test_a_result_is_of_its_config(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    config = run_config(read_runs()[result["name"]], result["seed"], Path(), None).to_dict()
    told = {"dataset": "", "backbone_weights": PRETRAINING}
    assert result["config"] == json.loads(json.dumps(config | told))
    assert result["log"][-1]["step"] == config["training"]["steps"]


def test_figures_follow_from_the_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(RESULTS / "runs")
    write_figures(tmp_path)
    for figure in FIGURES:
        name = f"{figure.name}.json"
        assert (tmp_path / name).read_text(encoding="utf-8") == (RESULTS / name).read_text(encoding="utf-8")
