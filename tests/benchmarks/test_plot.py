from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sparse_detr_deploy.benchmarks import plot
from sparse_detr_deploy.errors import InputError
from tests.benchmarks.conftest import make_report, make_row

ROWS = (
    make_row([300.0] * 12, name="r50_rho50_128x160", rho=0.5, gmacs=14.0),
    make_row([100.0] * 12, name="r50_rho12.5_128x160", rho=0.125, gmacs=12.0),
    make_row([110.0] * 12, name="r50_rhodyn_128x160", rho=0.125, dynamic_rho=True, gmacs=12.0),
    make_row([310.0] * 12, name="r50_rhodyn_128x160", rho=0.5, dynamic_rho=True, gmacs=14.0),
    make_row([500.0] * 12, name="r50_dense_128x160", rho=None, gmacs=20.0),
)


def test_what_makes_one_line() -> None:
    lines = {label: [row.rho for row in rows] for label, rows in plot._series(make_report(*ROWS)).items()}
    assert lines == {
        "r50_rhoNN_128x160 (one file per ρ)": [0.125, 0.5],
        "r50_rhodyn_128x160 (one file for every ρ)": [0.125, 0.5],
        "r50_dense_128x160 (dense)": [None],
    }


def test_what_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    plot.draw_plot(make_report(*ROWS), path, "svg")
    text = path.read_text()
    assert text.startswith("<?xml")
    # matplotlib draws letters as shapes and leaves the text beside them as comments
    for words in ("[ms]", "keep ratio ρ", "multiply-adds of one image", "a processor", "r50_dense_128x160 (dense)"):
        assert words in text


def test_what_differs_stands_at_the_lines_and_not_in_the_title(tmp_path: Path) -> None:
    engine = {"backend": "tensorrt", "device": "a GPU"}
    rows = [*ROWS[:2], *(dataclasses.replace(row, runtime=engine, batch=2) for row in ROWS[:2])]
    path = tmp_path / "plot.svg"
    plot.draw_plot(make_report(*rows), path, "svg")
    comments = re.findall(r"<!-- (.*?) -->", path.read_text())
    for place in ("onnxruntime on a processor (all 2 threads), batch 1", "tensorrt on a GPU, batch 2"):
        assert f"r50_rhoNN_128x160 (one file per ρ), {place}" in comments
    assert not [text for text in comments if text.startswith(("onnxruntime", "tensorrt", "batch"))]
    plot.draw_plot(make_report(*ROWS), path, "svg")
    comments = re.findall(r"<!-- (.*?) -->", path.read_text())
    assert "onnxruntime on a processor (all 2 threads), batch 1" in comments
    assert "r50_rhoNN_128x160 (one file per ρ)" in comments


def test_accuracy_is_drawn_where_it_was_measured(tmp_path: Path) -> None:
    rows = [dataclasses.replace(row, accuracy={"AP": 0.5}) for row in ROWS]
    plot.draw_plot(make_report(*rows), tmp_path / "accurate.svg", "svg")
    plot.draw_plot(make_report(*ROWS), tmp_path / "plain.svg", "svg")
    words = "AP (COCO, 0.50:0.95)"
    assert words in (tmp_path / "accurate.svg").read_text()
    assert words not in (tmp_path / "plain.svg").read_text()


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS[4:], (make_row(gmacs=None), make_row(rho=None, gmacs=None))])
def test_few_rows(rows: tuple, tmp_path: Path) -> None:  # type: ignore[type-arg]
    plot.draw_plot(make_report(*rows), tmp_path / "plot.png", "png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_suffix() -> None:
    plot.check_plot(Path("a.PNG"))
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        plot.check_plot(Path("a.jpg"))
