"""Two results against each other: is the newer one worse than allowed?"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from sparse_detr_deploy.benchmarks.likeness import differences, named, precision, precision_hindrances
from sparse_detr_deploy.benchmarks.results import Report, Row
from sparse_detr_deploy.errors import InputError, RegressionError

_GONE = "not measured any more"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        growth: share by which time and peak memory may grow.
        ap_drop: how much AP (0..1) may fall.
        missing: whether rows and values that only the old results have pass.
    """

    growth: float
    ap_drop: float
    missing: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row of the old results: new / old for time (p50 of inference, per image) and memory, new − old for AP.

    The new values are ``None`` where the new results lack the row; a ratio or change is ``None`` where one side lacks
    the value, or where it is of other images. Where the times of one side are not ``stable`` they do not count.
    ``regressions`` says what is worse than allowed.
    """

    name: str
    rho: float | None
    old_p50_ms: float
    new_p50_ms: float | None
    time_ratio: float | None
    memory_ratio: float | None
    ap_change: float | None
    stable: bool
    regressions: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name and keep ratio."""
        return self.name if self.rho is None else f"{self.name} at ρ {self.rho:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def parse_share(text: str) -> float:
    """``5%`` or ``0.05`` gives 0.05. Raises :class:`InputError` for anything else than a share of 0 or more."""
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})\s*(%?)\s*", text)
    if match is None:
        raise InputError(f"the allowed regression {text!r} is neither a percentage such as 5% nor a share such as 0.05")
    return float(match[1]) / (100 if match[2] else 1)


def compare(
    old: Report, new: Report, limits: Limits, warn: Callable[[str], None] = lambda text: None
) -> list[Comparison]:
    """Compare each row of the old results with the new one of its name, keep ratio and, if there is one, batch.

    Args:
        old: what to compare with.
        new: what to judge.
        limits: what is allowed.
        warn: told where the comparison is not like for like: other machine, images, runtime or size, and
            what is missing or unstable.

    Raises:
        InputError: no row is in both.
    """
    matches, added = _match(old, new)
    pairs = [(one, other) for one, other in matches if other is not None]
    if not pairs:
        raise InputError("the two results have no row in common (rows are matched by name and keep ratio)")
    for text in differences(old, new, pairs):
        warn(text)
    for row in added:
        warn(f"{row.title} is missing in the old results")
    hindrances = precision_hindrances(old, new, pairs)
    for why, titles in hindrances.items():
        warn(f"AP is not compared{named(titles, len(pairs))}: {why}")
    of_other_images = {name for titles in hindrances.values() for name in titles}
    return [_compare(one, other, limits, one.title not in of_other_images, warn) for one, other in matches]


def check_regressions(comparisons: Sequence[Comparison], limits: Limits) -> None:
    """Raise :class:`RegressionError` where one has regressions."""
    worse = [comparison for comparison in comparisons if comparison.regressions]
    if not worse:
        return
    lacks = any(_GONE in text for comparison in worse for text in comparison.regressions)
    raise RegressionError(
        f"{len(worse)} of {len(comparisons)} rows are worse than allowed ({100 * limits.growth:g}%, AP {limits.ap_drop:g}), "
        f"the first: {worse[0].title}: {', '.join(worse[0].regressions)}"
        + ("; --allow-missing lets pass what the new results lack" if lacks else "")
    )


def _match(old: Report, new: Report) -> tuple[list[tuple[Row, Row | None]], list[Row]]:
    """Each old row with the new one that it is compared with, and the new ones that are left."""
    left = {(row.name, row.rho, row.batch): row for row in new.rows}
    matches = [(row, left.pop((row.name, row.rho, row.batch), None)) for row in old.rows]
    others = {(row.name, row.rho): row for row in left.values()}
    matches = [(row, match or others.pop((row.name, row.rho), None)) for row, match in matches]
    used = [id(match) for _, match in matches]
    return matches, [row for row in new.rows if id(row) not in used]


def _compare(one: Row, other: Row | None, limits: Limits, same_images: bool, warn: Callable[[str], None]) -> Comparison:
    before = one.statistics().p50
    if other is None:
        warn(f"{one.title} is missing in the new results")
        regressions = () if limits.missing else (_GONE,)
        return Comparison(one.name, one.rho, before, None, None, None, None, one.is_stable, regressions)
    after = other.statistics().p50
    time = (after / other.batch) / (before / one.batch)
    for row, side in ((one, "old"), (other, "new")):
        if not row.is_stable:
            warn(f"{row.title}: {row.verdict} in the {side} results, so its time is not counted")
    stable = one.is_stable and other.is_stable
    worse = ["time"] if stable and time > 1 + limits.growth else []
    lost = []
    memory = ap = None
    if one.peak_memory_mib is not None:
        if other.peak_memory_mib is None:
            lost.append("memory")
        else:
            memory = other.peak_memory_mib / one.peak_memory_mib
            worse += ["memory"] * (memory > 1 + limits.growth)
    old_ap, new_ap = precision(one), precision(other)
    if old_ap is not None:
        if new_ap is None:
            lost.append("AP")
        elif same_images:
            ap = new_ap - old_ap
            worse += ["AP"] * (-ap > limits.ap_drop)
    for what in lost:
        warn(f"{one.title}: {what} {_GONE}")
    worse += [] if limits.missing else [f"{what} {_GONE}" for what in lost]
    return Comparison(one.name, one.rho, before, after, time, memory, ap, stable, tuple(worse))
