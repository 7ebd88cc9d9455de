"""Two results against each other: is the newer one worse than allowed?"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from sparse_detr_deploy.benchmarks.results import Report, Row
from sparse_detr_deploy.errors import InputError

_MACHINE = ("cpu", "cores_usable", "memory_gib", "gpus", "os")
_SETTINGS = ("backend", "provider", "threads", "images")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row in both results: new / old for time (p50 of inference) and memory, new − old for AP.

    ``regressions`` says what is worse than allowed.
    """

    name: str
    rho: float | None
    old_p50_ms: float
    new_p50_ms: float
    time_ratio: float
    memory_ratio: float | None
    ap_change: float | None
    stable: bool
    regressions: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name and keep ratio."""
        return _title(self.name, self.rho)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def parse_share(text: str) -> float:
    """``5%`` or ``0.05`` gives 0.05. Raises :class:`InputError` for anything else than a share of 0 or more."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(%?)\s*", text)
    if match is None:
        raise InputError(f"the allowed regression {text!r} is neither a percentage such as 5% nor a share such as 0.05")
    return float(match[1]) / (100 if match[2] else 1)


def compare(
    old: Report,
    new: Report,
    max_regression: float,
    max_ap_drop: float,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """Compare the rows that both results have, by name and keep ratio.

    Args:
        old: what to compare with.
        new: what to judge.
        max_regression: share by which time and peak memory may grow.
        max_ap_drop: how much AP (0..1) may fall.
        warn: told where the comparison is not like for like: other machine, other settings, unstable or missing rows.

    Raises:
        InputError: no row is in both.
    """
    for what, before, after in (
        *((key, old.environment.get(key), new.environment.get(key)) for key in _MACHINE),
        *((key, old.settings.get(key), new.settings.get(key)) for key in _SETTINGS),
    ):
        if before != after:
            warn(f"not like for like: {what} was {before}, now {after}")
    old_rows, new_rows = _by_key(old), _by_key(new)
    for key in old_rows.keys() ^ new_rows.keys():
        warn(f"{_title(*key[:2])} is missing in the {'new' if key in old_rows else 'old'} results")
    shared = [key for key in old_rows if key in new_rows]
    if not shared:
        raise InputError("the two results have no row in common (rows are matched by name, keep ratio and batch)")
    for key in shared:
        for row, side in ((old_rows[key], "old"), (new_rows[key], "new")):
            if not row.is_stable:
                warn(f"{_title(row.name, row.rho)}: {row.verdict} in the {side} results, so its times say little")
    return [_compare(old_rows[key], new_rows[key], max_regression, max_ap_drop) for key in shared]


def _compare(one: Row, other: Row, max_regression: float, max_ap_drop: float) -> Comparison:
    before, after = one.statistics().p50, other.statistics().p50
    memory = ap = None
    if one.peak_memory_mib and other.peak_memory_mib:
        memory = other.peak_memory_mib / one.peak_memory_mib
    old_ap, new_ap = ((row.accuracy or {}).get("AP") for row in (one, other))
    if old_ap is not None and new_ap is not None:
        ap = new_ap - old_ap
    worse = []
    if after / before > 1 + max_regression:
        worse.append("time")
    if memory is not None and memory > 1 + max_regression:
        worse.append("memory")
    if ap is not None and -ap > max_ap_drop:
        worse.append("AP")
    stable = one.is_stable and other.is_stable
    return Comparison(one.name, one.rho, before, after, after / before, memory, ap, stable, tuple(worse))


def _by_key(report: Report) -> dict[tuple[str, float | None, int], Row]:
    return {(row.name, row.rho, row.batch): row for row in report.rows}


def _title(name: str, rho: float | None) -> str:
    return name if rho is None else f"{name} at ρ {rho:g}"
