"""What is measured of engines only, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sparse_detr_deploy.benchmarks.engine_timing import EngineResult
from sparse_detr_deploy.benchmarks.results import Row
from sparse_detr_deploy.benchmarks.table import number
from sparse_detr_deploy.benchmarks.timing import summarise


def engine_table(rows: Sequence[Row]) -> Table | None:
    """A line for each row that is an engine; ``None`` without any."""
    engines = [(row, row.engine) for row in rows if row.engine is not None]
    if not engines:
        return None
    table = Table(title="Engines", caption="milliseconds, medians; stages by CUDA events, enqueue on the host")
    contexts = list(dict.fromkeys(found.contexts for _, engine in engines for found in engine.throughput))
    headings = ["artefact", "ρ", "batch", "upload", "GPU", "download", "enqueue", "CUDA graphs", "device MiB"]
    headings += [f"images/s × {count}" for count in contexts] + ["SM MHz", "W", "°C", "look out"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("artefact", "CUDA graphs", "look out") else "right")
    for row, engine in engines:
        stages = engine.stages_ms
        medians = [summarise(stages.of(stage)).p50 for stage in ("upload", "compute", "download", "enqueue")]
        speeds = {found.contexts: found.images_per_second for found in engine.throughput}
        graphs = str(row.runtime.get("cuda_graphs"))
        table.add_row(
            row.name,
            "dense" if row.rho is None else f"{row.rho:g}",
            str(row.batch),
            *(f"{value:.2f}" for value in medians),
            "failed" if graphs.startswith("failed") else graphs,
            number(engine.device_memory_mib, ".0f"),
            *(number(speeds.get(count), ".1f") for count in contexts),
            *_clocks(engine),
            ", ".join(text.split(":")[0] for text in engine.warnings) or "–",
            style="yellow" if engine.warnings else None,
        )
    return table


def _clocks(engine: EngineResult) -> tuple[str, str, str]:
    clocks = engine.clocks
    if clocks is None:
        return "–", "–", "–"
    return f"{clocks.sm_mhz['mean']:.0f}", f"{clocks.power_w['mean']:.0f}", f"{clocks.temperature_c['max']:.0f}"
