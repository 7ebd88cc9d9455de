"""What is drawn: the lines of the figure itself, and the words of the file."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from sparse_detr_deploy.benchmarks import plot
from sparse_detr_deploy.benchmarks.results import Report
from sparse_detr_deploy.errors import InputError
from tests.benchmarks.conftest import make_report, make_row

ROWS = (
    make_row([300.0] * 12, name="r50_rho50_128x160", rho=0.5, gmacs=14.0),
    make_row([100.0] * 11 + [1e3], name="r50_rho12.5_128x160", rho=0.125, gmacs=12.0),
    make_row([110.0] * 12, name="r50_rhodyn_128x160", rho=0.125, dynamic_rho=True, gmacs=12.5),
    make_row([310.0] * 12, name="r50_rhodyn_128x160", rho=0.5, dynamic_rho=True, gmacs=14.5),
    make_row([500.0] * 12, name="r50_dense_128x160", rho=None, gmacs=20.0),
)
FIXED, DYNAMIC, DENSE = (
    "r50_rhoNN_128x160 (one file per ρ)",
    "r50_rhodyn_128x160 (one file for every ρ)",
    "r50_dense_128x160 (dense)",
)


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draws a report without writing it; gives the figure."""
    drawn: list[tuple[Figure, dict[str, Any]]] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: drawn.append((self, options)))

    def draw(report: Report) -> Figure:
        plot.draw_plot(report, Path("plot.png"), "png")
        found, options = drawn.pop()
        assert options["format"] == "png"
        return found

    return draw


def lines(panel: Any) -> dict[str, list[tuple[float, float]]]:
    """The points of each line by what the legend calls it."""
    handles, labels = panel.get_legend_handles_labels()
    found = {}
    for handle, label in zip(handles, labels, strict=True):
        line = handle[0] if isinstance(handle, tuple) else handle  # of an error bar, its line
        found[label.strip()] = list(zip(*(map(float, axis) for axis in line.get_data()), strict=True))
    return found


def test_what_makes_one_line() -> None:
    lines = {label: [row.rho for row in rows] for label, rows in plot._series(make_report(*ROWS)).items()}
    assert lines == {FIXED: [0.125, 0.5], DYNAMIC: [0.125, 0.5], DENSE: [None]}


def test_latency_and_complexity_are_drawn_against_the_ratio(figure: Any) -> None:
    latency, complexity = figure(make_report(*ROWS)).axes
    assert lines(latency) == {
        FIXED: [(0.125, 100.0), (0.5, 300.0)],  # the median: the outlier is in no percentile up to 90
        DYNAMIC: [(0.125, 110.0), (0.5, 310.0)],
        DENSE: [(0.0, 500.0), (1.0, 500.0)],  # from one side of the panel to the other
    }
    assert lines(complexity) == {
        FIXED: [(0.125, 12.0), (0.5, 14.0)],
        DYNAMIC: [(0.125, 12.5), (0.5, 14.5)],
        DENSE: [(0.0, 20.0), (1.0, 20.0)],
    }
    for panel in (latency, complexity):
        assert panel.get_ylim()[0] == 0
        assert panel.get_xlim() == (0, 0.62)
        assert panel.get_xlabel() == "keep ratio ρ"
        assert sorted(text.get_text() for text in panel.get_legend().get_texts()) == sorted([FIXED, DYNAMIC, DENSE])
    assert "p50 (whisker: p90) [ms]" in latency.get_ylabel()
    assert "multiply-adds of one image" in complexity.get_ylabel()


def test_whiskers_reach_from_the_median_to_p90(figure: Any) -> None:
    times = [float(value) for value in range(10, 21)]
    (container,) = figure(make_report(make_row(times))).axes[0].containers
    (whisker,) = container[2][0].get_segments()
    assert whisker[:, 1] == pytest.approx([15.0, 19.0])


def test_ratios_up_to_one_are_seen(figure: Any) -> None:
    wide = figure(make_report(*ROWS, make_row(rho=1.0)))
    assert [panel.get_xlim() for panel in wide.axes] == [(0, 1.02)] * 2


def test_a_file_for_every_ratio_can_be_told_apart(figure: Any) -> None:
    for panel in figure(make_report(*ROWS)).axes:
        markers = {line.get_label().strip(): line.get_marker() for line in panel.get_lines()}
        markers |= {box.get_label().strip(): box[0].get_marker() for box in panel.containers}
        assert (markers[FIXED], markers[DYNAMIC]) == ("o", "s")


def test_accuracy_is_drawn_against_ratio_and_time(figure: Any) -> None:
    precisions = (0.5, 0.25, None, 0.375, 0.75)
    rows = [dataclasses.replace(row, accuracy={"AP": ap}) for row, ap in zip(ROWS, precisions, strict=True)]
    _, _, ratio, time = figure(make_report(*rows)).axes
    assert lines(ratio) == {
        FIXED: [(0.125, 0.25), (0.5, 0.5)],
        DYNAMIC: [(0.5, 0.375)],  # where it was measured
        DENSE: [(0.0, 0.75), (1.0, 0.75)],
    }
    assert {
        label: points for label, points in zip((FIXED, DYNAMIC, DENSE), map(_points, time.get_lines()), strict=True)
    } == {
        FIXED: [(100.0, 0.25), (300.0, 0.5)],
        DYNAMIC: [(310.0, 0.375)],
        DENSE: [(500.0, 0.75)],
    }
    assert time.get_xlim()[0] == 0
    assert (ratio.get_xlabel(), time.get_xlabel()) == ("keep ratio ρ", "inference of one batch, p50 [ms]")
    assert ratio.get_ylabel() == time.get_ylabel() == "AP (COCO, 0.50:0.95)"


def _points(line: Any) -> list[tuple[float, float]]:
    return list(zip(*(map(float, axis) for axis in line.get_data()), strict=True))


def test_without_accuracy_there_are_two_panels(figure: Any) -> None:
    assert len(figure(make_report(*ROWS)).axes) == 2
    assert len(figure(make_report(make_row(accuracy={"AP": None}))).axes) == 2
    assert len(figure(make_report(make_row(accuracy={"AP": 0.0}))).axes) == 4


def test_what_is_not_known_is_not_drawn(figure: Any) -> None:
    latency, complexity = figure(make_report(make_row(gmacs=None), make_row(name="dense", rho=None, gmacs=None))).axes
    assert len(lines(latency)) == 2
    assert lines(complexity) == {}
    assert complexity.get_legend() is None


def test_the_file_holds_the_words(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    plot.draw_plot(make_report(*ROWS), path, "svg")
    text = path.read_text()
    assert text.startswith("<?xml")
    # matplotlib draws letters as shapes and leaves the text beside them as comments
    for words in ("[ms]", "keep ratio ρ", "multiply-adds of one image", "a processor", DENSE):
        assert words in text


def test_what_differs_stands_at_the_lines_and_not_in_the_title(tmp_path: Path) -> None:
    engine = {"backend": "tensorrt", "device": "a GPU"}
    rows = [*ROWS[:2], *(dataclasses.replace(row, runtime=engine, batch=2) for row in ROWS[:2])]
    path = tmp_path / "plot.svg"
    plot.draw_plot(make_report(*rows), path, "svg")
    comments = re.findall(r"<!-- (.*?) -->", path.read_text())
    for place in ("onnxruntime on a processor (all 2 threads), batch 1", "tensorrt on a GPU, batch 2"):
        assert f"{FIXED}, {place}" in comments
    assert not [text for text in comments if text.startswith(("onnxruntime", "tensorrt", "batch"))]
    plot.draw_plot(make_report(*ROWS), path, "svg")
    comments = re.findall(r"<!-- (.*?) -->", path.read_text())
    assert "onnxruntime on a processor (all 2 threads), batch 1" in comments
    assert FIXED in comments


def test_suffix() -> None:
    plot.check_plot(Path("a.PNG"))
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        plot.check_plot(Path("a.jpg"))
