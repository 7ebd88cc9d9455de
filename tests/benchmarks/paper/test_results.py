"""The committed results are whole: raw runs of the configs in runs.toml, and figures that follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparse_detr_deploy.benchmarks.paper.figures import FIGURES, write_figures
from sparse_detr_deploy.benchmarks.paper.runs import PRETRAINING, read_runs, run_config

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "paper"
RAW = sorted((RESULTS / "runs").glob("*.json"))
pytestmark = pytest.mark.committed


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


def _means(figure: str) -> list[dict[float, float]]:
    document = json.loads((RESULTS / f"{figure}.json").read_text(encoding="utf-8"))
    return [{point["x"]: point["mean"] for point in line["points"]} for line in document["lines"]]


def test_what_the_text_says_of_one_model_for_every_ratio() -> None:
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    one, each = _means("dynamic_sparsification")
    assert f"loses {each[0.1] - one[0.1]:.2f} at ρ 0.1 and {each[0.05] - one[0.05]:.2f} at 0.05" in text
    assert max(each[ratio] - one[ratio] for ratio in (0.3, 0.5, 1)) < 0.03


def test_what_the_text_says_of_corr_and_queries() -> None:
    document = json.loads((RESULTS / "correlation.json").read_text(encoding="utf-8"))
    last = {line["label"]: line["points"][-1] for line in document["lines"]}
    for ratio in ("0.1", "0.3"):
        assert last[f"DAM, ρ = {ratio}"]["min"] > last[f"OS, ρ = {ratio}"]["max"]
    top_k, learned = (next(iter(line.values())) for line in _means("decoder_queries"))
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert f"are {top_k - learned:.2f} ahead of learned ones" in text
