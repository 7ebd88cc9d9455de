"""Files of COCO annotations: what is taken, and what is added. Those that are refused are in test_accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparse_detr_deploy.benchmarks.coco_file import read_coco
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.hashing import sha256_of


def write(coco: dict[str, Any], folder: Path) -> Path:
    file = folder / "changed.json"
    file.write_text(json.dumps(coco))
    return file


def test_usual_files_are_taken(coco: dict[str, Any], tmp_path: Path) -> None:
    coco["annotations"][0].update(iscrowd=1, area=12.5, bbox=[-1.5, 0, 0, 3])
    coco["annotations"][1].update(iscrowd=False)
    file = write(coco, tmp_path)
    dataset, sha256 = read_coco(file)
    assert sha256 == sha256_of(file)
    assert dataset["annotations"][0]["bbox"] == [-1.5, 0, 0, 3]
    assert [entry["iscrowd"] for entry in dataset["annotations"]] == [1, 0, 0]


def test_what_a_file_lacks_is_added_and_what_it_has_is_kept(coco: dict[str, Any], tmp_path: Path) -> None:
    coco["annotations"][0].update(iscrowd=1, area=12.5)
    coco["annotations"][1].update(bbox=[0, 0, 4, 5])
    entries = read_coco(write(coco, tmp_path))[0]["annotations"]
    found = [(entry["id"], entry["area"], entry["iscrowd"]) for entry in entries]
    assert found == [(1, 12.5, 1), (2, 20, 0), (3, 8000, 0)]  # no annotation has the id 0


TAKEN: list[dict[str, Any]] = [
    {"bbox": [-1e9, 1e9, 1e9, 0]},
    {"area": 0},
    {"area": 1e18},
    {"image_id": 2**63 - 1},
    {"category_id": -(2**63)},
]
REFUSED: list[dict[str, Any]] = [
    {"bbox": [0, 0, 1.1e9, 1]},
    {"bbox": [-1.1e9, 0, 1, 1]},
    {"bbox": [0, 0, 1, -1]},
    {"area": 1.1e18},
    {"area": -1},
    {"iscrowd": 2},
    {"image_id": 2**63},
]


@pytest.mark.parametrize("change", TAKEN, ids=str)
def test_the_largest_that_are_taken(change: dict[str, Any], coco: dict[str, Any], tmp_path: Path) -> None:
    coco["annotations"][2].update(change)
    entry = read_coco(write(coco, tmp_path))[0]["annotations"][2]
    assert entry.items() >= change.items()


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_what_is_too_large_or_negative(change: dict[str, Any], coco: dict[str, Any], tmp_path: Path) -> None:
    coco["annotations"][2].update(change)
    with pytest.raises(InputError, match=f"entry 3 of 'annotations' has {next(iter(change))}"):
        read_coco(write(coco, tmp_path))


def test_a_byte_order_mark_is_no_fault(coco: dict[str, Any], tmp_path: Path) -> None:
    file = write(coco, tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_coco(file)[0]["images"]) == 3


def test_fields_that_nobody_needs_may_hold_anything(coco: dict[str, Any], tmp_path: Path) -> None:
    coco["info"] = {"seed": 2**70}
    coco["images"][0].update(width="120", height=0, flickr=10**25)
    assert read_coco(write(coco, tmp_path))[0]["info"] == {"seed": 2**70}
