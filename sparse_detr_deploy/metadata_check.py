"""What must hold of metadata before anything relies on it: types, limits, and what fields say of each other."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sparse_detr_deploy import limits
from sparse_detr_deploy.file_names import name_fault

if TYPE_CHECKING:
    from sparse_detr_deploy.metadata import Metadata

_SHA256 = re.compile(r"[0-9a-f]{64}")


def metadata_faults(metadata: Metadata) -> list[str]:
    """The fields that are not what they should be, each with the reason where that is not plain; empty where all are."""
    return [*_texts(metadata), *_documents(metadata), *_sizes(metadata), *_run(metadata)]


def is_text(value: object) -> bool:
    """A short text that can be shown: what a version or the name of an architecture is."""
    return isinstance(value, str) and len(value) <= limits.MOST_TEXT_CHARACTERS and value.isprintable()


def is_sha256(value: object) -> bool:
    """64 hexadecimal digits in lower case."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def is_count(value: object) -> bool:
    """A whole number of at least 1."""
    return type(value) is int and value > 0


def is_mapping_of(value: object, holds: Callable[[object], bool]) -> bool:
    """An object whose keys are texts and whose values are what ``holds`` says."""
    return isinstance(value, dict) and all(isinstance(key, str) and holds(entry) for key, entry in value.items())


def _texts(metadata: Metadata) -> Iterator[str]:
    if not isinstance(metadata.name, str):
        yield "name"
    elif (fault := name_fault(metadata.name)) is not None:
        yield f"name {metadata.name[: limits.MOST_TEXT_CHARACTERS]!r}, which files are named by: {fault}"
    for field in ("architecture", "toolkit_version"):
        if not is_text(getattr(metadata, field)):
            yield field
    if metadata.digest != "" and not is_sha256(metadata.digest):
        yield "digest"
    names = metadata.class_names
    if names is not None:
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            yield "class_names"
        elif (fault := limits.names_fault(names)) is not None:
            yield f"class_names: {fault}"


def _documents(metadata: Metadata) -> Iterator[str]:
    for field in ("model", "verification"):
        if not isinstance(getattr(metadata, field), dict):
            yield field
    if isinstance(metadata.model, dict):
        for field in ("hidden_dim", "nheads", "enc_n_points", "dec_n_points"):
            size = metadata.model.get(field, 1)
            if not (is_count(size) and size <= limits.MOST_MODEL_SIZE):
                yield f"model, {field}"
    if not is_mapping_of(metadata.versions, lambda value: isinstance(value, str)):
        yield "versions"
    if not isinstance(metadata.checkpoint, dict) or not all(
        isinstance(metadata.checkpoint.get(field, ""), str) for field in ("file", "sha256")
    ):
        yield "checkpoint"
    if not is_mapping_of(metadata.custom_ops, lambda value: type(value) is int):
        yield "custom_ops"


def _sizes(metadata: Metadata) -> Iterator[str]:
    """Canvas, levels and counts; the limits are looked at where the types are right."""
    batch = metadata.batch
    sound_batch = (
        isinstance(batch, tuple) and len(batch) == 3 and all(map(is_count, batch)) and list(batch) == sorted(batch)
    )
    if not sound_batch:
        yield "batch"
    sound_canvas = is_count(metadata.height) and is_count(metadata.width)
    if not sound_canvas:
        yield "sizes"
    elif sound_batch and (fault := limits.canvas_fault(metadata.height, metadata.width, batch[2])) is not None:
        yield f"height, width, batch: {fault}"
    counts = (metadata.num_queries, metadata.num_classes, metadata.num_detections)
    if not all(map(is_count, counts)):
        yield "sizes"
    else:
        for field, most in (
            ("num_queries", limits.MOST_QUERIES),
            ("num_classes", limits.MOST_CLASSES),
            ("num_detections", min(limits.MOST_DETECTIONS, metadata.num_queries * metadata.num_classes)),
        ):
            if getattr(metadata, field) > most:
                yield f"{field}: {getattr(metadata, field)}, but {most:,} are possible"
    levels = metadata.level_shapes
    if not isinstance(levels, tuple) or not all(
        isinstance(shape, tuple) and len(shape) == 2 and all(map(is_count, shape)) for shape in levels
    ):
        yield "level_shapes"
    elif not 1 <= len(levels) <= limits.MOST_LEVELS:
        yield f"level_shapes: {len(levels)} levels, but 1 to {limits.MOST_LEVELS} are possible"
    elif sound_canvas and any(rows > metadata.height or columns > metadata.width for rows, columns in levels):
        yield "level_shapes: a level is larger than the canvas"


def _run(metadata: Metadata) -> Iterator[str]:
    """How it is run, and with which pixels."""
    rho = metadata.rho
    std_fits = _is_triple(metadata.std, limits.MOST_STD) and all(value >= limits.LEAST_STD for value in metadata.std)
    gmacs = (metadata.gmacs_per_kept_token, 0 if metadata.gmacs_fixed is None else metadata.gmacs_fixed)
    holds = {
        "rho": rho is None or (_is_number(rho) and 0 < rho <= 1),
        "dynamic_rho": isinstance(metadata.dynamic_rho, bool) and not (metadata.dynamic_rho and rho is None),
        "padded": isinstance(metadata.padded, bool),
        "inlined": isinstance(metadata.inlined, bool),
        "input_dtype": metadata.input_dtype in ("float32", "uint8"),
        "precision": metadata.precision in ("float32", "float16"),
        "color": metadata.color == "rgb",
        "outputs": metadata.outputs in ("detections", "raw"),
        "opset": is_count(metadata.opset),
        "mean, std": _is_triple(metadata.mean, limits.MOST_MEAN) and std_fits,
        "gmacs": all(_is_number(value) and 0 <= value <= limits.MOST_GMACS for value in gmacs),
    }
    return (name for name, held in holds.items() if not held)


def _is_triple(values: object, most: float) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(_is_number(value) and abs(value) <= most for value in values)
    )


def _is_number(value: object) -> bool:
    """Finite, and no ``bool``; JSON also has integers that no float holds."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
