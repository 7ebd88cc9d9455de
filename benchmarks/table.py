"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from sparse_detr_deploy.benchmarks.compare import Comparison
from sparse_detr_deploy.benchmarks.results import Report, Row


def results_table(report: Report) -> Table:
    """A line for each row; with several rows also the ratio of its median to the first one's."""
    environment, settings = report.environment, report.settings
    table = Table(
        title=f"{report.rows[0].runtime.get('backend')} on {device_label(report)}, batch {report.rows[0].batch}",
        caption=(
            f"milliseconds per call, {settings['rounds']} rounds round-robin, {settings['images']}; "
            f"load average {_load(environment['load_average_start'])} at the start, {_load(environment['load_average_end'])} at the end"
        ),
    )
    rows = report.rows
    accurate = any(row.accuracy for row in rows)
    headings = ["artefact", "ρ", "kept", "GMACs", "p50", "p90", "p99", "mean ± std", "FPS", "pre", "post", "peak MiB"]
    headings += ["AP"] * accurate + ["time to first"] * (len(rows) > 1) + ["stable"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("artefact", "stable") else "right")
    first = rows[0].statistics().p50
    for row in rows:
        inference = row.statistics()
        cells = [
            row.name,
            "dense" if row.rho is None else f"{row.rho:g}",
            f"{row.kept}/{row.tokens}",
            number(row.gmacs, ".1f" if row.gmacs and row.gmacs >= 10 else ".3g"),
            *(f"{value:.1f}" for value in (inference.p50, inference.p90, inference.p99)),
            f"{inference.mean:.1f} ± {inference.std:.1f}",
            f"{inference.fps:.2f}",
            f"{row.statistics('preprocess').p50:.1f}",
            f"{row.statistics('postprocess').p50:.2f}",
            number(row.peak_memory_mib, ".0f"),
        ]
        if accurate:
            cells.append(number((row.accuracy or {}).get("AP"), ".3f"))
        if len(rows) > 1:
            cells.append(f"{inference.p50 / first:.2f}×")
        table.add_row(*cells, stability_cell(row), style=None if row.is_stable else "yellow")
    return table


def stability_cell(row: Row) -> str:
    """The verdict, with the spread of the windows where one was measured."""
    spread = row.stability.spread
    return row.verdict if spread is None else f"{row.verdict} ({100 * spread:.1f} %)"


def device_label(report: Report) -> str:
    """The processor or GPU that ran, and the threads."""
    environment, settings = report.environment, report.settings
    if "device" in report.rows[0].runtime:
        return str(report.rows[0].runtime["device"])
    if settings["provider"] == "cuda" and environment["gpus"]:
        return str(environment["gpus"][0])
    threads = settings["threads"] or f"all {environment['cores_usable']}"
    return f"{environment['cpu']} ({threads} threads)"


def number(value: float | None, spec: str) -> str:
    """``value`` formatted, or a dash for none."""
    return "–" if value is None else format(value, spec)


def flops_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line for each model, in both usual conventions."""
    table = Table(
        title="Complexity of one image", caption="1 GMAC = 10⁹ multiply-adds (what the Sparse DETR paper calls a GFLOP)"
    )
    for heading in ("model", "ρ", "tokens", "kept", "GMACs", "GFLOPs (2 × GMACs)", "parameters (M)"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            "dense" if row["rho"] is None else f"{row['rho']:g}",
            str(row["tokens"]),
            str(row["kept"]),
            f"{row['gmacs']:.1f}",
            f"{2 * row['gmacs']:.1f}",
            f"{row['params'] / 1e6:.1f}",
        )
    return table


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """A line for each row that both results have."""
    table = Table(title="New against old", caption="time: p50 of inference in milliseconds")
    for heading in ("artefact", "ρ", "old", "new", "time", "memory", "AP", "verdict"):
        table.add_column(heading, justify="left" if heading in ("artefact", "verdict") else "right")
    for row in comparisons:
        verdict = f"worse: {', '.join(row.regressions)}" if row.regressions else "within limits"
        table.add_row(
            row.name,
            number(row.rho, "g"),
            f"{row.old_p50_ms:.1f}",
            f"{row.new_p50_ms:.1f}",
            f"{row.time_ratio:.3f}×",
            number(row.memory_ratio, ".3f"),
            number(row.ap_change, "+.3f"),
            verdict if row.stable else f"{verdict} (unstable)",
            style="red" if row.regressions else None if row.stable else "yellow",
        )
    return table


def _load(average: list[float] | None) -> str:
    return "unknown" if average is None else f"{average[0]:g}"
