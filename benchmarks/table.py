"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from sparse_detr_deploy.benchmarks.compare import Comparison
from sparse_detr_deploy.benchmarks.results import Report, Row


def results_table(report: Report) -> Table:
    """A line for each row; with several rows also the ratio of its median, per image, to the first one's."""
    environment, settings, rows = report.environment, report.settings, report.rows
    batches = [str(row.batch) for row in rows]
    places = [place(report, row) for row in rows]
    shared = [*common(places), *(f"batch {batch}" for batch in common(batches))]
    table = Table(
        title=", ".join(shared) or "Results",
        caption=(
            f"milliseconds per call, {settings['rounds']} rounds round-robin, {settings['images']}; "
            f"load average {_load(environment['load_average_start'])} at the start, {_load(environment['load_average_end'])} at the end"
        ),
    )
    several_batches, several_places = not common(batches), not common(places)
    accurate = any(row.accuracy for row in rows)
    headings = ["artefact", "ρ", *["batch"] * several_batches, *["runs on"] * several_places]
    headings += ["kept", "GMACs", "p50", "p90", "p99", "mean ± std", "FPS", "pre", "post", "peak MiB"]
    to_first = "per image to first" if several_batches else "time to first"
    headings += ["AP"] * accurate + [to_first] * (len(rows) > 1) + ["stable"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("artefact", "runs on", "stable") else "right")
    first = rows[0].statistics().p50 / rows[0].batch
    for row, batch, where in zip(rows, batches, places, strict=True):
        inference = row.statistics()
        cells = [
            row.name,
            "dense" if row.rho is None else f"{row.rho:g}",
            *[batch] * several_batches,
            *[where] * several_places,
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
            cells.append(f"{inference.p50 / row.batch / first:.2f}×")
        table.add_row(*cells, stability_cell(row), style=None if row.is_stable else "yellow")
    return table


def stability_cell(row: Row) -> str:
    """The verdict, with the spread of the windows where one was measured."""
    spread = row.stability.spread
    return row.verdict if spread is None else f"{row.verdict} ({100 * spread:.1f} %)"


def place(report: Report, row: Row) -> str:
    """Backend of a row and what it ran on: the GPU, or the processor and its threads."""
    environment, settings = report.environment, report.settings
    if "device" in row.runtime:
        device = str(row.runtime["device"])
    elif settings["provider"] == "cuda" and environment["gpus"]:
        device = str(environment["gpus"][0])
    else:
        threads = settings["threads"] or f"all {environment['cores_usable']}"
        device = f"{environment['cpu']} ({threads} threads)"
    return f"{row.runtime.get('backend')} on {device}"


def common(values: Sequence[str]) -> list[str]:
    """The one value where all are equal, else nothing."""
    return list(values[:1]) if len(set(values)) == 1 else []


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
    """A line for each row of the old results."""
    table = Table(title="New against old", caption="old, new: p50 of inference in milliseconds; time: per image")
    for heading in ("artefact", "ρ", "old", "new", "time", "memory", "AP", "verdict"):
        table.add_column(heading, justify="left" if heading in ("artefact", "verdict") else "right")
    for row in comparisons:
        ratio = number(row.time_ratio, ".3f")
        table.add_row(
            row.name,
            number(row.rho, "g"),
            f"{row.old_p50_ms:.1f}",
            number(row.new_p50_ms, ".1f"),
            ratio if row.time_ratio is None else f"{ratio}×",
            number(row.memory_ratio, ".3f"),
            number(row.ap_change, "+.3f"),
            _verdict(row),
            style="red" if row.regressions else None if row.stable and row.new_p50_ms is not None else "yellow",
        )
    return table


def _verdict(row: Comparison) -> str:
    if row.new_p50_ms is None and not row.regressions:
        return "missing, which is allowed"
    verdict = f"worse: {', '.join(row.regressions)}" if row.regressions else "within limits"
    return verdict if row.stable or row.new_p50_ms is None else f"{verdict} (time not counted: not stable)"


def _load(average: list[float] | None) -> str:
    return "unknown" if average is None else f"{average[0]:g}"
