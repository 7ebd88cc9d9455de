"""The comparison as a JSON document and as a table."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

from rich.table import Table

from sparse_detr_deploy.benchmarks.environment import describe_environment
from sparse_detr_deploy.benchmarks.peers.checkout import SOURCE, identity_of
from sparse_detr_deploy.benchmarks.peers.comparing import Row
from sparse_detr_deploy.benchmarks.peers.entries import FLOOR
from sparse_detr_deploy.benchmarks.peers.preparing import Preparation
from sparse_detr_deploy.benchmarks.peers.settings import Settings
from sparse_detr_deploy.benchmarks.peers.worker import MEMORY_DEFINITION
from sparse_detr_deploy.benchmarks.timing import STABLE
from sparse_detr_deploy.runners.onnxruntime import SLOW_CPU_OPTIMIZERS

KIND = "sparse_detr_deploy.peers"
SCHEMA_VERSION = 1
_PACKAGES = ("torch", "onnx", "onnxscript", "transformers")


def document(
    settings: Settings,
    prepared: Preparation,
    rows: list[Row],
    profiles: list[dict[str, Any]],
    load_averages: list[list[float] | None],
) -> dict[str, Any]:
    """All that was measured, as plain values. Times in milliseconds, memory in MiB."""
    environment = describe_environment()
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "complete": {row.group for row in rows} == set(settings.all_rhos),
        "environment": {
            **environment,
            "packages": {**environment["packages"], **_versions()},
            "load_average_start": load_averages[0],
            "load_average_end": load_averages[-1],
        },
        "settings": {
            "size": f"{settings.height}x{settings.width}",
            "batch": 1,
            "precision": "float32",
            "architecture": "R50, random weights",
            "seed": settings.seed,
            "threads": settings.threads,
            "rounds": settings.rounds,
            "eager_rounds": settings.eager_rounds,
            "warmup": settings.warmup,
            "order": "round-robin within the entries of a keep ratio (our dense one with each), all alive in processes of their own",
            "timed": "inference on a ready input tensor; pre- and post-processing outside the graph are not timed",
            "session_options": f"ONNX Runtime: threads only; ours, and the rows that say so, without {SLOW_CPU_OPTIMIZERS}",
            "graphs": "ours end with the 100 best detections, the peers' with logits and boxes of 300 queries",
            "peak_memory": MEMORY_DEFINITION,
            "peers": _peers(settings, prepared),
        },
        "left_out": prepared.left_out,
        "rows": [_row(row, prepared) for row in rows],
        "ratios": ratios(rows),
        "floor": floor_distances(rows, prepared),
        "profiles": profiles,
    }


def ratios(rows: list[Row]) -> list[dict[str, Any]]:
    """How ours (fused kernels) stands to each other row that it was timed with, our own dense one among them.

    ``speedup`` is the median of the other over ours (above 1: ours is faster), ``speedup_paired`` the median of the
    ratios of each round, ``memory`` peak memory of ours over the other's (below 1: ours takes less).
    """
    found = []
    for own in _own_rows(rows):
        others = [row for row in rows if row.group == own.group and row is not own and row.entry.family != FLOOR]
        found += [_ratio(own, other) for other in others]
    return found


def floor_distances(rows: list[Row], prepared: Preparation) -> list[dict[str, Any]]:
    """How far ours (fused kernels) is from its convolutions and matrix products alone, by keep ratio."""
    found = []
    for own in _own_rows(rows):
        for floor in (row for row in rows if row.entry.family == FLOOR and row.group == own.group):
            told = prepared.floors[own.group]
            time = floor.statistics.p50
            found.append(
                {
                    "rho": own.group,
                    **told,
                    "floor_ms": round(time, 1),
                    "ours_ms": round(own.statistics.p50, 1),
                    "ours_over_floor": round(own.statistics.p50 / time, 3),
                    "ours_over_floor_paired": round(own.ratio_to(floor), 3),
                    "gmacs_per_s": round(1000 * told["gmacs"] / time, 1),
                }
            )
    return found


def _own_rows(rows: list[Row]) -> list[Row]:
    """Ours with fused kernels, one for each group."""
    return [row for row in rows if row.entry.is_ours_fused and row.entry.rho == row.group]


def _ratio(own: Row, other: Row) -> dict[str, Any]:
    return {
        "rho": own.entry.rho,
        "ours": own.entry.title,
        "other": other.entry.title,
        "speedup": round(other.statistics.p50 / own.statistics.p50, 3),
        "speedup_paired": round(other.ratio_to(own), 3),
        "memory": round(own.peak_memory_mib / other.peak_memory_mib, 3),
    }


def _row(row: Row, prepared: Preparation) -> dict[str, Any]:
    path = row.entry.options.get("path")
    return {
        "title": row.entry.title,
        "family": row.entry.family,
        "runtime": row.entry.runtime,
        "rho": row.entry.rho,
        "group_rho": row.group,
        "file": path and path.rsplit("/", 1)[-1],
        "sha256": path and prepared.sha256s[path],
        "load_s": round(row.load_s, 2),
        "peak_memory_mib": round(row.peak_memory_mib, 1),
        "samples_ms": [round(value, 2) for value in row.samples_ms.values()],
        "rounds": list(row.samples_ms),
        "statistics": {key: round(value, 3) for key, value in row.statistics.to_dict().items()},
        "stability": row.stability.to_dict(),
        "agreement": row.agreement,
    }


def _peers(settings: Settings, prepared: Preparation) -> dict[str, Any]:
    peers: dict[str, Any] = {family: {"change": change} for family, change in prepared.changes.items()}
    if settings.original is not None:
        peers["original"] |= {"source": SOURCE, **identity_of(settings.original)}
    return peers


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def table(rows: list[Row], settings: Settings) -> Table:
    """A line for each row, those of one keep ratio together, the fastest first."""
    result = Table(
        title=f"R50, {settings.height}×{settings.width}, batch 1, float32, {settings.threads} threads, {settings.rounds} rounds",
        caption="× is the time of the row over ours with fused kernels at the same ρ (median of the rounds' ratios)",
    )
    for heading in ("entry", "ρ", "p50 ms", "p90 ms", "×", "peak MiB", "Δ score", "Δ px", "stable"):
        result.add_column(heading, justify="left" if heading in ("entry", "stable") else "right")
    for own in _own_rows(rows):
        group = sorted((row for row in rows if row.group == own.group), key=lambda row: row.statistics.p50)
        for row in group:
            agreement = row.agreement or {}
            result.add_row(
                f"{row.entry.family}, {row.entry.runtime}",
                "dense" if row.entry.rho is None else f"{row.entry.rho:g}",
                f"{row.statistics.p50:.1f}",
                f"{row.statistics.p90:.1f}",
                f"{row.ratio_to(own):.2f}",
                f"{row.peak_memory_mib:.0f}",
                f"{agreement['score']:.0e}" if agreement else "",
                f"{agreement['box_pixels']:.3f}" if agreement else "",
                row.stability.verdict,
                style="bold" if row is own else None if row.stability.verdict == STABLE else "yellow",
                end_section=row is group[-1],
            )
    return result


def to_json(values: dict[str, Any]) -> str:
    """The document as text."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
