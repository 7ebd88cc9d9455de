"""Annotations and results files, and the tables made of them."""

from __future__ import annotations

import functools
import json
from typing import Any

import cv2
import numpy as np
from rich.table import Table

from sparse_detr_deploy.benchmarks.accuracy import Annotations, evaluate
from sparse_detr_deploy.benchmarks.compare import Limits, compare
from sparse_detr_deploy.benchmarks.results import Report
from sparse_detr_deploy.benchmarks.table import comparison_table, results_table
from sparse_detr_deploy.cli_support import console_for_people, printable
from sparse_detr_deploy.detections import Detections
from tests.benchmarks.conftest import make_report, make_row
from tests.fuzz.harness import Case, Target

_COCO: dict[str, Any] = {
    "images": [{"id": 10 + index, "file_name": f"{index}.png", "height": 20, "width": 30} for index in range(2)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 1, "bbox": [1, 1, 4, 5], "area": 20, "iscrowd": 0},
        {"id": 2, "image_id": 11, "category_id": 3, "bbox": [0, 0, 10.5, 8]},
    ],
}

_OUTSIDE = ("../secret.png", "./../images/../secret.png", "x/../../secret.png", "..\\secret.png")


def _drawn(case: Case, document: dict[str, Any]) -> dict[str, Any]:
    """Values of the first two levels drawn anew."""
    mutator = case.mutator
    return {
        key: [
            {name: mutator.value() if mutator.chance(0.3) else old for name, old in entry.items()}
            if isinstance(entry, dict)
            else mutator.value()
            for entry in value
        ]
        if isinstance(value, list) and mutator.chance(0.8)
        else mutator.value()
        if mutator.chance(0.4)
        else value
        for key, value in document.items()
    }


def run_annotations(case: Case) -> None:
    """Reading annotations, and AP with them."""
    document = case.mutator.document(_COCO) if case.mutated else _drawn(case, _COCO)
    images = case.folder / "images"
    if not images.exists():
        images.mkdir()
        for index in range(2):
            cv2.imwrite(str(images / f"{index}.png"), np.zeros((20, 30, 3), dtype=np.uint8))
        cv2.imwrite(str(case.folder / "secret.png"), np.zeros((20, 30, 3), dtype=np.uint8))
    outside = case.mutator.chance(0.05) and isinstance(document, dict)
    if outside and isinstance(document.get("images"), list) and document["images"]:
        first = {**_COCO["images"][0], "file_name": case.mutator.pick(_OUTSIDE)}
        document = {**document, "images": [first, *document["images"][1:]]}
    file = case.folder / "coco.json"
    file.write_bytes(case.mutator.json(document).encode("utf-8", "surrogatepass"))
    annotations = Annotations.read(file, images)
    assert all(path.resolve().is_relative_to(images.resolve()) for path in annotations.paths.values()), "outside"
    images_named = [image["id"] for image in annotations.dataset["images"]]
    assert len(set(images_named)) == len(images_named), "an image that counts twice"
    one = Detections(
        np.array([[1, 1, 5, 6]], dtype=np.float32),
        np.array([0.9], dtype=np.float32),
        np.array([1], dtype=np.int32),
        (20, 30),
    )
    accuracy = evaluate(annotations.dataset, {image_id: one for image_id in annotations.paths})
    assert all(value is None or 0 <= value <= 1 for value in accuracy.values.values())


@functools.cache
def _report() -> str:
    rows = [make_row(), make_row([80.0] * 12, name="r50_rho10_128x160", rho=0.1, accuracy={"AP": 0.5, "images": 3})]
    return make_report(*rows).to_json()


def run_results(case: Case) -> None:
    """Reading results; their CSV, and the comparison with whole ones."""
    valid = json.loads(_report())
    document = case.mutator.document(valid) if case.mutated else _drawn(case, valid)
    file, whole = case.folder / "results.json", case.folder / "whole.json"
    file.write_bytes(case.mutator.json(document).encode("utf-8", "surrogatepass"))
    whole.write_text(_report(), encoding="utf-8")
    report = Report.read(file)
    if not report.rows:
        return
    report.to_csv()
    report.to_json()
    for old, new in ((Report.read(whole), report), (report, Report.read(whole)), (report, report)):
        _shown(comparison_table(compare(old, new, Limits(0.05, 0.001))))


def run_table(case: Case) -> None:
    """Names, as artefacts and devices may have them, in tables: all of a name is shown."""
    name = case.mutator.pick(
        (
            "a[/]b",
            "[red]x[/red]",
            "[bold",
            "x[1]",
            "\\[x]",
            "a[b]c[/b]",
            ":smile:",
            "[link=x]y",
            "a\x1b[2Jb",
            "a\u202eb",
        )
    )
    name = f"{case.mutator.pick(('', 'r50_'))}{name}"
    row = make_row(name=name, runtime={"backend": name if case.mutator.chance(0.5) else "onnxruntime"})
    report = make_report(row, make_row(name="other"))
    for table in (results_table(report), comparison_table(compare(report, report, Limits(0.05, 0.001)))):
        shown = _shown(table)
        assert printable(name) in shown, f"{name} is not shown as it is"
        assert not {"\x1b", "\u202e"} & set(shown), "text that drives the terminal"


def _shown(table: Table) -> str:
    console = console_for_people(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


TARGETS = (
    Target("annotations", run_annotations, 12),
    Target("results", run_results, 12),
    Target("table", run_table, 2, never_refuses=True),
)
