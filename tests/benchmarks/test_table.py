"""What the tables say: every cell, and where rows differ in more than the keep ratio."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from sparse_detr_deploy.benchmarks.compare import Comparison
from sparse_detr_deploy.benchmarks.measuring import Samples
from sparse_detr_deploy.benchmarks.results import Report, Row
from sparse_detr_deploy.benchmarks.table import comparison_table, flops_table, results_table
from tests.benchmarks.conftest import make_report, make_row

ENGINE = {"backend": "tensorrt", "device": "a GPU"}


def printed(table: Table) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def cells_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def shown(report: Report) -> tuple[str, str, list[list[str]]]:
    """Title, headings and cells."""
    text = printed(results_table(report))
    title, _, headings = text.splitlines()[:3]
    return title.strip(), headings, cells_of(text)


def by_heading(report: Report) -> list[dict[str, str]]:
    """The cells of each row by the heading above them."""
    _, headings, cells = shown(report)
    names = [name.strip() for name in headings.strip("┃").split("┃")]
    return [dict(zip(names, line, strict=True)) for line in cells]


def uneven(**changes: Any) -> Row:
    """Of ten calls in 10, 20, … 100 ms, half as long before, a quarter after them."""
    times = [10.0 * step for step in range(1, 11)]
    samples = Samples([time / 2 for time in times], times, [time / 4 for time in times])
    return make_row(**{"samples_ms": samples, "gmacs": 12.34, "peak_memory_mib": 345.6, **changes})


def test_every_cell_of_a_row() -> None:
    first, dense = by_heading(
        make_report(
            uneven(accuracy={"AP": 0.4567, "AP50": 0.9}, batch=2),
            make_row([11.0] * 12, name="dense", rho=None, kept=426, gmacs=1.2345, peak_memory_mib=None, batch=2),
        )
    )
    assert first == {
        "artefact": "r50_rho30_128x160",
        "ρ": "0.3",
        "kept": "128/426",
        "GMACs": "12.3",
        "p50": "55.0",
        "p90": "91.0",
        "p99": "99.1",
        "mean ± std": "55.0 ± 30.3",
        "FPS": "36.36",  # 2 images in 55 ms
        "pre": "27.5",
        "post": "13.75",
        "peak MiB": "346",
        "AP": "0.457",
        "time to first": "1.00×",
        "stable": "unstable (260.0 %)",  # medians of 4, 3 and 3 calls: 25, 60 and 90 ms
    }
    assert (dense["ρ"], dense["GMACs"], dense["peak MiB"], dense["AP"]) == ("dense", "1.23", "–", "–")
    assert (dense["time to first"], dense["stable"]) == ("0.20×", "stable (0.0 %)")


def test_rows_that_are_not_stable_stand_out() -> None:
    table = results_table(make_report(make_row(), uneven(), make_row([1.0])))
    assert [row.style for row in table.rows] == [None, "yellow", "yellow"]
    assert cells_of(printed(table))[2][-1] == "too few rounds"


def test_the_caption_tells_the_load_and_the_images() -> None:
    report = make_report(make_row(), load_average_end=[1.5, 0.2, 0.1])
    text = " ".join(printed(results_table(report)).split())
    assert "12 rounds round-robin, 4 images; load average 0.1 at the start, 1.5 at the end" in text
    assert "unknown at the end" in " ".join(printed(results_table(make_report(make_row()))).split())


def test_where_it_ran() -> None:
    report = make_report(make_row(), gpus=["a GPU"])
    assert shown(report)[0] == "onnxruntime on a processor (all 2 threads), batch 1"
    report.settings.update(threads=3)
    assert "a processor (3 threads)" in shown(report)[0]
    report.settings.update(provider="cuda")
    assert shown(report)[0] == "onnxruntime on a GPU, batch 1"


def test_complexity_in_both_conventions() -> None:
    rows = [
        {"name": "x", "rho": 0.25, "tokens": 426, "kept": 107, "gmacs": 120.46, "params": 40_940_000},
        {"name": "y", "rho": None, "tokens": 426, "kept": 426, "gmacs": 170.3, "params": 40_800_000},
    ]
    assert cells_of(printed(flops_table(rows))) == [
        ["x", "0.25", "426", "107", "120.5", "240.9", "40.9"],
        ["y", "dense", "426", "426", "170.3", "340.6", "40.8"],
    ]


def test_a_comparison() -> None:
    fine = Comparison("x", 0.3, 100.0, 90.04, 0.9004, 1.0106, -0.0011, True, ())
    rows = [
        fine,
        Comparison("y", None, 100.0, 120.0, 1.2, None, None, True, ("time", "AP")),
        Comparison("z", 0.5, 100.0, 120.0, 1.2, 1.0, 0.01, False, ()),
        Comparison("gone", 0.5, 100.0, None, None, None, None, True, ()),
        Comparison("lost", 0.5, 100.0, None, None, None, None, True, ("not measured any more",)),
    ]
    table = comparison_table(rows)
    assert cells_of(printed(table)) == [
        ["x", "0.3", "100.0", "90.0", "0.900×", "1.011", "-0.001", "within limits"],
        ["y", "–", "100.0", "120.0", "1.200×", "–", "–", "worse: time, AP"],
        ["z", "0.5", "100.0", "120.0", "1.200×", "1.000", "+0.010", "within limits (time not counted: not stable)"],
        ["gone", "0.5", "100.0", "–", "–", "–", "–", "missing, which is allowed"],
        ["lost", "0.5", "100.0", "–", "–", "–", "–", "worse: not measured any more"],
    ]
    assert [row.style for row in table.rows] == [None, "red", "yellow", "yellow", "red"]


def test_rows_of_one_runtime_and_batch() -> None:
    title, headings, cells = shown(make_report(make_row(), make_row([150.0] * 12)))
    assert title == "onnxruntime on a processor (all 2 threads), batch 1"
    assert "batch" not in headings
    assert "runs on" not in headings
    assert cells[1][-2] == "1.50×"


def test_rows_of_several_batches() -> None:
    title, headings, cells = shown(make_report(make_row([100.0] * 12), make_row([150.0] * 12, batch=2)))
    assert title == "onnxruntime on a processor (all 2 threads)"
    assert "batch" in headings
    assert [line[2] for line in cells] == ["1", "2"]
    assert [line[-2] for line in cells] == ["1.00×", "0.75×"]  # per image


def test_rows_of_several_runtimes() -> None:
    title, headings, cells = shown(make_report(make_row(), make_row(runtime=ENGINE)))
    assert title == "batch 1"
    assert "runs on" in headings
    assert [line[2] for line in cells] == ["onnxruntime on a processor (all 2 threads)", "tensorrt on a GPU"]


def test_rows_that_differ_in_both() -> None:
    title, _, cells = shown(make_report(make_row(), make_row(runtime=ENGINE, batch=4)))
    assert "processor" not in title
    assert "batch" not in title
    assert cells[1][2:4] == ["4", "tensorrt on a GPU"]
