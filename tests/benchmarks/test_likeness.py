"""``sparse-detr-bench compare`` where the two results are not like for like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparse_detr_deploy.benchmarks.likeness import differences, named, precision_hindrances
from sparse_detr_deploy.benchmarks.results import Report
from tests.benchmarks.conftest import make_report, make_row
from tests.benchmarks.test_compare import compare, words


def accurate(annotations: str | None, images: int, sha256: str | None = None, precision: float = 0.1) -> Report:
    report = make_report(make_row(accuracy={"AP": precision, "images": images}), make_row(name="b"))
    report.settings.update(annotations=annotations, annotations_sha256=sha256)
    return report


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (("val.json", 200), ("other.json", 200), ("val.json", "other.json")),
        (("val.json", 200), ("val.json", 100), ("200", "100")),
        (("val.json", 9, "a" * 64), ("val.json", 9, "b" * 64), ("val.json (sha256 aaaaaaaaaaaa…)", "(sha256 bbbb")),
    ],
)
def test_precision_of_other_images_is_not_compared(
    old: tuple[Any, ...], new: tuple[Any, ...], named: tuple[str, ...], tmp_path: Path
) -> None:
    result = compare(tmp_path, accurate(*old, precision=0.9), accurate(*new), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[0]["ap_change"] is None
    assert "AP is not compared" in words(result)
    for text in named:
        assert text in words(result)


def test_precision_where_older_results_have_no_checksum(tmp_path: Path) -> None:
    result = compare(tmp_path, accurate("val.json", 9, precision=0.9), accurate("val.json", 9, "b" * 64))
    assert result.exit_code == 8
    assert "AP is not compared" not in result.stderr


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"height": 256}, "height was 128, now 256"),
        ({"width": 256}, "width was 160, now 256"),
        ({"precision": "float16"}, "precision was float32, now float16"),
        ({"batch": 2}, "batch was 1, now 2"),
        ({"runtime": {"backend": "openvino"}}, "runtime's backend was onnxruntime, now openvino"),
        ({"runtime": {"backend": "onnxruntime", "version": "2"}}, "runtime's version was None, now 2"),
        (
            {"runtime": {"backend": "onnxruntime", "custom_ops": "function bodies"}},
            "runtime's custom_ops was None, now function bodies",
        ),
    ],
)
def test_rows_that_are_not_alike(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    result = compare(
        tmp_path, make_report(make_row(), make_row(name="b")), make_report(make_row(), make_row(name="b", **change))
    )
    assert result.exit_code == 0, result.stderr
    assert f"{text} (b at ρ 0.3)" in words(result)
    result = compare(tmp_path, make_report(make_row()), make_report(make_row(**change)))
    assert text in words(result)
    assert f"{text} (" not in words(result)  # of all rows


@pytest.mark.parametrize(
    ("key", "value"),
    [("cpu", "another"), ("cores_usable", 4), ("memory_gib", 8.0), ("gpus", ["a GPU"]), ("os", "another")],
)
def test_every_part_of_the_machine_counts(key: str, value: Any) -> None:
    old, new = make_report(make_row()), make_report(make_row(), **{key: value})
    (text,) = differences(old, new, [])
    assert text == f"not like for like: {key} was {old.environment[key]}, now {value}"
    assert list(differences(old, make_report(make_row(), packages={"numpy": "9"}), [])) == []


def test_other_images_are_reported() -> None:
    old, new = make_report(make_row()), make_report(make_row())
    new.settings["images"] = "9 images of a folder"
    assert list(differences(old, new, [])) == ["not like for like: images was 4 images, now 9 images of a folder"]


def test_of_many_rows_three_are_named() -> None:
    assert named(["a", "b", "c"], 3) == ""
    assert named(["a", "b", "c"], 4) == " (a, b, c)"
    assert named(["a", "b", "c", "d", "e"], 6) == " (a, b, c and 2 more)"


def test_only_rows_whose_precision_was_measured_twice_are_hindered() -> None:
    old, new = accurate("val.json", 9), accurate("other.json", 9)
    unmeasured = make_row(name="c", accuracy={"AP": None})
    pairs = [*zip(old.rows, new.rows, strict=True), (unmeasured, old.rows[0]), (old.rows[0], unmeasured)]
    assert precision_hindrances(old, new, pairs) == {
        "it was measured on val.json, now on other.json": ["r50_rho30_128x160 at ρ 0.3"]
    }
