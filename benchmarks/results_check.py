"""What a JSON document of results must hold, before anything is made of it: a damaged file is refused with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparse_detr_deploy.benchmarks.json_check import Fields, Holds, fault_of, is_measure, is_number, is_whole

DERIVED = ("statistics", "stability")  # keys of a row that follow from its samples
_PARTS = ("preprocess", "inference", "postprocess")
_STAGES = ("upload", "compute", "download", "enqueue")
_MOST = 1e18
_SPREADS = ("sm_mhz", "memory_mhz", "power_w", "temperature_c")


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return is_whole(value) and 0 < value <= 2**31


def _are_numbers(value: object, keys: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and set(value) == set(keys) and all(map(is_number, value.values()))


def _are_samples(value: object, parts: tuple[str, ...], holds: Holds) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(parts)
        and all(isinstance(times, list) and times and all(map(holds, times)) for times in value.values())
        and len({len(times) for times in value.values()}) == 1
    )


def _is_accuracy(value: object) -> bool:
    return isinstance(value, dict) and all(
        number is None or (is_number(number) and abs(number) <= _MOST) for number in value.values()
    )


def _is_throughput(value: object) -> bool:
    return isinstance(value, list) and all(_are_numbers(found, ("contexts", "images_per_second")) for found in value)


def _are_clocks(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"count", *_SPREADS, "throttled"}
        and _is_count(value["count"])
        and all(_are_numbers(value[key], ("min", "mean", "max")) for key in _SPREADS)
        and isinstance(value["throttled"], dict)
        and all(map(is_number, value["throttled"].values()))
    )


def _or_null(holds: Holds) -> Holds:
    return lambda value: value is None or holds(value)


_OBJECT = (_is_object, "no JSON object")
_TEXT = (lambda value: isinstance(value, str), "no text")
_COUNT = (_is_count, "no whole number above 0")
_DOCUMENT: Fields = {
    "environment": _OBJECT,
    "settings": _OBJECT,
    "left_out": (lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value), "no texts"),
    "rows": (lambda value: isinstance(value, list), "no list"),
}
_ROW: Fields = {
    **dict.fromkeys(("name", "artefact", "sha256", "architecture", "precision"), _TEXT),
    **dict.fromkeys(("height", "width", "batch", "tokens", "kept"), _COUNT),
    "rho": (_or_null(lambda value: is_number(value) and 0 < value <= 1), "neither null nor in (0, 1]"),
    "dynamic_rho": (lambda value: isinstance(value, bool), "neither true nor false"),
    "gmacs": (_or_null(is_number), "neither null nor a finite number"),
    "runtime": _OBJECT,
    "samples_ms": (
        lambda value: _are_samples(value, _PARTS, is_measure),
        f"not {', '.join(_PARTS)} with as many finite numbers above 0 each",
    ),
}
_ROW_OPTIONAL: Fields = {
    "peak_memory_mib": (_or_null(is_measure), "neither null nor a number above 0"),
    "accuracy": (_or_null(_is_accuracy), "neither null nor an object of finite numbers"),
    "engine": (_or_null(_is_object), "neither null nor a JSON object"),
}
_ENGINE: Fields = {
    "stages_ms": (
        lambda value: _are_samples(value, _STAGES, lambda time: time == 0 or is_measure(time)),  # events are coarse
        f"not {', '.join(_STAGES)} with as many finite numbers of at least 0 each",
    ),
    "throughput": (_is_throughput, "no list of contexts with their images_per_second"),
    "clocks": (_or_null(_are_clocks), "neither null nor a summary of clocks"),
    "device_memory_mib": (_or_null(is_number), "neither null nor a finite number"),
}


def fault(document: Mapping[str, Any]) -> str:
    """What is wrong with it, nothing where it is sound."""
    found = fault_of(document, _DOCUMENT)
    if found:
        return f"the document {found}"
    for index, row in enumerate(document["rows"], start=1):
        where = f"row {index}"
        found = fault_of(row, _ROW, _ROW_OPTIONAL)
        if isinstance(row, dict):
            where += f" ({row['name']})" if isinstance(row.get("name"), str) else ""
            unknown = sorted(set(row) - {*_ROW, *_ROW_OPTIONAL, *DERIVED})
            found = found or (f"has {unknown[0]!r}, which this version does not know" if unknown else "")
        if not found and row.get("engine") is not None:
            found = fault_of(row["engine"], _ENGINE)
            where += ", engine," if found else ""
        if found:
            return f"{where} {found}"
    return ""
