"""What the tables say where rows differ in more than the keep ratio."""

from __future__ import annotations

from rich.console import Console

from sparse_detr_deploy.benchmarks.results import Report
from sparse_detr_deploy.benchmarks.table import results_table
from tests.benchmarks.conftest import make_report, make_row

ENGINE = {"backend": "tensorrt", "device": "a GPU"}


def shown(report: Report) -> tuple[str, str, list[list[str]]]:
    """Title, headings and cells."""
    console = Console(width=300)
    with console.capture() as capture:
        console.print(results_table(report))
    title, _, headings, _, *lines = capture.get().splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    return title.strip(), headings, cells


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
