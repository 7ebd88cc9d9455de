"""What keeps two results from being like for like, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sparse_detr_deploy.benchmarks.results import Report, Row

_MACHINE = ("cpu", "cores_usable", "memory_gib", "gpus", "os")
_ROW = ("height", "width", "precision", "batch")
_SHOWN = 3


def differences(old: Report, new: Report, pairs: Sequence[tuple[Row, Row]]) -> Iterator[str]:
    """Of the machine, of the images to time on, and of each pair of rows: size, precision, batch and runtime."""
    for what, before, after in (
        *((key, old.environment.get(key), new.environment.get(key)) for key in _MACHINE),
        ("images", old.settings.get("images"), new.settings.get("images")),
    ):
        if before != after:
            yield f"not like for like: {what} was {before}, now {after}"
    found = ((text, one.title) for one, other in pairs for text in _of_rows(one, other))
    for text, titles in grouped(found).items():
        yield f"not like for like: {text}{named(titles, len(pairs))}"


def precision_hindrances(old: Report, new: Report, pairs: Sequence[tuple[Row, Row]]) -> dict[str, list[str]]:
    """Why the AP of pairs of rows says nothing about each other, with the titles of those rows."""
    found = []
    for one, other in pairs:
        why = _other_annotations(old, new) or _other_images(one, other)
        if why and precision(one) is not None and precision(other) is not None:
            found.append((why, one.title))
    return grouped(found)


def precision(row: Row) -> float | None:
    """AP at 0.50:0.95, where it was measured."""
    return (row.accuracy or {}).get("AP")


def grouped(found: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Titles by what is said of them."""
    groups: dict[str, list[str]] = {}
    for text, name in found:
        groups.setdefault(text, []).append(name)
    return groups


def _of_rows(one: Row, other: Row) -> Iterator[str]:
    values: list[tuple[str, Any, Any]] = [(key, getattr(one, key), getattr(other, key)) for key in _ROW]
    keys = dict.fromkeys((*one.runtime, *other.runtime))
    values += [(f"the runtime's {key}", one.runtime.get(key), other.runtime.get(key)) for key in keys]
    for what, before, after in values:
        if before != after:
            yield f"{what} was {before}, now {after}"


def _other_annotations(old: Report, new: Report) -> str:
    names = [report.settings.get("annotations") for report in (old, new)]
    if names[0] != names[1]:
        return f"it was measured on {names[0]}, now on {names[1]}"
    sums = [report.settings.get("annotations_sha256") for report in (old, new)]
    if None in sums or sums[0] == sums[1]:  # older results have none
        return ""
    before, after = (f"{names[0]} (sha256 {str(checksum)[:12]}…)" for checksum in sums)
    return f"it was measured on {before}, now on {after}"


def _other_images(one: Row, other: Row) -> str:
    before, after = ((row.accuracy or {}).get("images") for row in (one, other))
    return "" if before == after else f"it was measured on {before} images, now on {after}"


def named(titles: Sequence[str], count: int) -> str:
    """Which of ``count`` rows, if not all."""
    if len(titles) == count:
        return ""
    more = f" and {len(titles) - _SHOWN} more" if len(titles) > _SHOWN else ""
    return f" ({', '.join(titles[:_SHOWN])}{more})"
