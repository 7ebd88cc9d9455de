"""Lines are made of the right runs, means and extremes are of the seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparse_detr_deploy.benchmarks.paper.figures import write_figures, write_result
from sparse_detr_deploy.errors import InputError, OutputError


def result(name: str, seed: int, rho: float, precisions: dict[float | None, float]) -> dict[str, Any]:
    return {
        "name": name,
        "seed": seed,
        "config": {"model": {"rho": rho}},
        "evaluation": [{"rho": ratio, "AP": precision} for ratio, precision in precisions.items()],
        "log": [{"step": 50, "corr": 0.5 + seed / 10}],
    }


def lines(folder: Path, figure: str) -> dict[str, list[dict[str, Any]]]:
    document = json.loads((folder / f"{figure}.json").read_text(encoding="utf-8"))
    return {line["label"]: line["points"] for line in document["lines"]}


def test_lines_and_spread(tmp_path: Path) -> None:
    write_result(result("dam_rho10", 0, 0.1, {0.1: 0.4, 0.3: 0.45}), tmp_path)
    write_result(result("dam_rho10", 1, 0.1, {0.1: 0.5, 0.3: 0.55}), tmp_path)
    write_result(result("dam_rho30", 0, 0.3, {0.1: 0.3, 0.3: 0.6}), tmp_path)
    write_result(result("dense", 0, 0.0, {None: 0.7}), tmp_path)
    write_figures(tmp_path)
    (found,) = lines(tmp_path, "saliency").values()
    assert [(point["x"], point["mean"], point["min"], point["max"]) for point in found] == [
        (0.1, 0.45, 0.4, 0.5),
        (0.3, 0.6, 0.6, 0.6),
    ]
    assert found[0]["by_seed"] == {"0": 0.4, "1": 0.5}
    one, each = lines(tmp_path, "dynamic_sparsification").values()
    assert [(point["x"], point["mean"]) for point in one] == [(0.1, 0.3), (0.3, 0.6)]
    assert [(point["x"], point["mean"]) for point in each] == [(0.1, 0.45), (0.3, 0.6), (1.0, 0.7)]
    corr = lines(tmp_path, "correlation")
    assert [point["mean"] for point in corr["DAM, ρ = 0.1"]] == [pytest.approx(0.55)]
    assert list(lines(tmp_path, "encoder_auxiliary")) == ["with the auxiliary loss"]


def test_a_damaged_result(tmp_path: Path) -> None:
    path = write_result(result("dense", 0, 0.0, {None: 0.7}), tmp_path)
    path.write_text('{"name": "dense"', encoding="utf-8")
    with pytest.raises(InputError, match=r"dense_seed0.json is no result of a run \(JSONDecodeError"):
        write_figures(tmp_path)


def test_results_are_drawn_anew_but_nothing_else_is_written_over(tmp_path: Path) -> None:
    write_result(result("dense", 0, 0.0, {None: 0.7}), tmp_path)
    for _ in range(2):
        write_result(result("dense", 0, 0.0, {None: 0.7}), tmp_path)
        write_figures(tmp_path)
    drawn = tmp_path / "decoder_queries.png"
    before = drawn.read_bytes()
    data = tmp_path / "decoder_queries.json"
    data.write_text('{"mine": 1}')
    with pytest.raises(OutputError, match=r"decoder_queries\.json is there, and is not an older result"):
        write_figures(tmp_path)
    assert data.read_text() == '{"mine": 1}'
    data.unlink()
    with pytest.raises(OutputError, match=r"decoder_queries\.png is there without decoder_queries\.json"):
        write_figures(tmp_path)
    assert drawn.read_bytes() == before
    file = tmp_path / "runs" / "dense_seed0.json"
    file.write_text('{"name": "mine"}')
    with pytest.raises(OutputError, match="not an older result"):
        write_result(result("dense", 0, 0.0, {None: 0.7}), tmp_path)
    assert file.read_text() == '{"name": "mine"}'


@pytest.mark.parametrize(
    "content",
    [
        "[" * 5000,
        '{"name": "dense"}',
        '{"name": "dense", "seed": [0], "config": {"model": {"rho": 0}}, "evaluation": [{"rho": null, "AP": 0.5}]}',
        '{"name": "dense", "seed": 0, "config": {"model": {"rho": 0}}, "evaluation": []}',
        '{"name": ["dense"], "seed": 0}',
    ],
    ids=range(5),
)
def test_results_that_are_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "dense_seed0.json").write_text(content)
    with pytest.raises(InputError):
        write_figures(tmp_path)
