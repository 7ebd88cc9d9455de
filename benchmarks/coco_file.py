"""A file of COCO annotations, read and checked to the last entry: pycocotools checks nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.json_check import Fields, fault_of, is_number, is_whole
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_bytes
from sparse_detr_deploy.short_repr import short_repr

_MOST_BYTES = 2**30  # the annotations of COCO's training images are 0.45 GB
_MOST_BITS = 1000  # of whole numbers in fields that nobody reads; those that count are checked one by one
_MOST_PIXELS = 1e9  # of a side or place; products of two must be finite, and exact enough


def _is_box(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(is_number(number) and abs(number) <= _MOST_PIXELS for number in value)
        and min(value[2:]) >= 0
    )


_WHOLE = (is_whole, "no whole number of 64 bits")
_REQUIRED: dict[str, Fields] = {
    "images": {"id": _WHOLE, "file_name": (lambda value: isinstance(value, str) and value != "", "no name of a file")},
    "annotations": {
        "id": (lambda value: True, ""),  # it is replaced
        "image_id": _WHOLE,
        "category_id": _WHOLE,
        "bbox": (_is_box, "no [x, y, width, height] of finite numbers with a width and height of at least 0"),
    },
    "categories": {"id": _WHOLE},
}
_OPTIONAL: dict[str, Fields] = {
    "annotations": {
        "area": (lambda value: is_number(value) and 0 <= value <= _MOST_PIXELS**2, "no finite number of at least 0"),
        "iscrowd": (lambda value: value in (0, 1), "neither 0 nor 1"),
    },
}


def read_coco(file: Path) -> tuple[dict[str, Any], str]:
    """The data set in ``file``, with what pycocotools needs and files may lack (area, iscrowd, ids of annotations), and
    the SHA-256 of the file.

    Raises:
        InputError: the file cannot be read or is no COCO detection file; the message names the entry.
    """
    try:
        data = read_bytes(file, _MOST_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        text = data.decode("utf-8-sig")
        del data  # of hundreds of MB, as the text
        dataset = parse_json(text, _MOST_BITS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the annotations {file} cannot be read ({reason}): give a file in COCO's format") from None
    found = _fault(dataset)
    if found:
        raise InputError(f"{file} is not a COCO detection file ({found}): see https://cocodataset.org/#format-data")
    for index, entry in enumerate(dataset["annotations"], start=1):
        entry["id"] = index  # pycocotools takes a match with annotation 0 for none
        entry.setdefault("iscrowd", 0)
        entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
    return dataset, digest


def _fault(dataset: object) -> str:
    """What is wrong with it; nothing where it is sound."""
    if not isinstance(dataset, dict):
        return "it is no JSON object"
    for key in _REQUIRED:
        entries = dataset.get(key)
        if not isinstance(entries, list):
            return f"no list {key!r}"
        if not entries:
            return f"{key!r} is empty, so there is nothing to measure"
        for index, entry in enumerate(entries, start=1):
            found = fault_of(entry, _REQUIRED[key], _OPTIONAL.get(key))
            if found:
                return f"entry {index} of {key!r} {found}"
    return _repetition(dataset)


def _repetition(dataset: dict[str, Any]) -> str:
    """What is there twice and would be counted twice, or take the place of the first, without a word."""
    for key, field, of in (
        ("images", "id", lambda entry: entry["id"]),
        ("images", "file_name", lambda entry: os.path.normpath(entry["file_name"])),
        ("categories", "id", lambda entry: entry["id"]),
    ):
        first: dict[object, int] = {}
        for index, entry in enumerate(dataset[key], start=1):
            before = first.setdefault(of(entry), index)
            if before != index:
                return f"entry {index} of {key!r} has the {field} {short_repr(entry[field])} of entry {before}"
    return ""
