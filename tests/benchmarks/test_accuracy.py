from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from sparse_detr_deploy.benchmarks import accuracy
from sparse_detr_deploy.benchmarks.accuracy import Accuracy, Annotations, evaluate, measure_accuracy
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import InputError
from tests.benchmarks.conftest import unreadable


def from_truth(dataset: dict[str, Any], image_id: int, shift: float = 0.0) -> Detections:
    """The annotated boxes of an image as detections, moved to the right by ``shift`` of their width."""
    entries = [entry for entry in dataset["annotations"] if entry["image_id"] == image_id]
    boxes = [[x + shift * w, y, x + shift * w + w, y + h] for x, y, w, h in (entry["bbox"] for entry in entries)]
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.8, len(entries), dtype=np.float32),
        np.array([entry["category_id"] for entry in entries], dtype=np.int32),
        (90, 120),
    )


@pytest.fixture
def dataset(annotations: Path, images: Path) -> dict[str, Any]:
    return Annotations.read(annotations, images).dataset


def test_perfect_detections(dataset: dict[str, Any]) -> None:
    found = evaluate(dataset, {image_id: from_truth(dataset, image_id) for image_id in (10, 12)})
    assert found.to_dict() == {
        "AP": pytest.approx(1.0),
        "AP50": pytest.approx(1.0),
        "AP75": pytest.approx(1.0),
        "AP_small": pytest.approx(1.0),
        "AP_medium": pytest.approx(1.0),
        "AP_large": None,
        "images": 2,
    }


def test_wrong_labels_find_nothing(dataset: dict[str, Any]) -> None:
    truth = from_truth(dataset, 10)
    wrong = Detections(truth.boxes, truth.scores, truth.labels + 50, truth.image_size)
    assert evaluate(dataset, {10: wrong}).values["AP"] == 0.0


def test_shifted_boxes_lose_the_strict_thresholds(dataset: dict[str, Any]) -> None:
    # moved by a fifth of the width: IoU 0.8 / 1.2
    found = evaluate(dataset, {image_id: from_truth(dataset, image_id, 0.2) for image_id in (10, 12)}).values
    assert found["AP50"] == pytest.approx(1.0)
    assert found["AP75"] == 0.0
    assert found["AP"] == pytest.approx(0.4)  # of the ten thresholds 0.5, 0.55, 0.6 and 0.65


def test_annotated_images_that_did_not_run_are_no_misses(dataset: dict[str, Any]) -> None:
    """AP is of the images that ran: a run on some of them is not worse for the objects on the others."""
    found = evaluate(dataset, {10: from_truth(dataset, 10)})
    assert (found.values["AP"], found.images) == (pytest.approx(1.0), 1)
    assert found.values["AP_large"] is None
    empty = {**dataset, "images": [*dataset["images"], {"id": 99, "file_name": "x.png"}]}
    wrong = from_truth(dataset, 10)
    # what is found on an image without objects is wrong: before the right dog, and after the right cat
    scored = Detections(wrong.boxes, np.array([0.5, 0.85], np.float32), wrong.labels, wrong.image_size)
    found = evaluate(empty, {10: wrong, 99: scored})
    assert found.images == 2
    assert found.values["AP50"] == pytest.approx((1 + 0.5) / 2)


def test_an_object_is_found_once() -> None:
    """The second one on it is wrong, also where the first is the very first of all detections."""
    boxes = np.array([[0, 0, 20, 20], [0, 0, 20, 20], [50, 50, 80, 80]], np.float32)
    annotated = [
        {"id": index, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] ** 2, "iscrowd": 0}
        for index, box in enumerate([[0, 0, 20, 20], [50, 50, 30, 30]], start=1)
    ]
    dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": annotated}
    scores, labels = np.array([0.9, 0.8, 0.7], np.float32), np.ones(3, np.int32)
    found = evaluate(dataset, {1: Detections(boxes, scores, labels, (100, 100))})
    # precision 1 up to recall 1/2 (51 of 101 recalls), then 2/3
    assert found.values["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_each_size_has_its_own_objects() -> None:
    """Of three sizes (areas below 32² and 96² pixels are small and medium) other shares are found."""
    sides = {"small": [20] * 4, "medium": [40, 50], "large": [120]}
    boxes = [[0.0, 0.0, side, side] for of_size in sides.values() for side in of_size]
    dataset = {
        "images": [{"id": index} for index in range(len(boxes))],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": index + 1, "image_id": index, "category_id": 1, "bbox": box, "area": box[2] ** 2, "iscrowd": 0}
            for index, box in enumerate(boxes)
        ],
    }

    def found(box: list[float], score: float = 0.9) -> Detections:
        scores = np.array([score], np.float32)
        return Detections(np.array([box], np.float32), scores, np.ones(1, np.int32), (200, 200))

    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), (200, 200))
    detections = {index: found(box) if index not in (1, 2, 3, 5) else nothing for index, box in enumerate(boxes)}
    # a large wrong one, surer than all others, is no mistake among the medium ones
    detections[5] = found([60.0, 60.0, 199.0, 199.0], 1.0)
    values = evaluate(dataset, detections).values
    # of the 101 recalls 26 are up to 1/4, and 51 up to 1/2
    assert [values[f"AP_{size}"] for size in sides] == pytest.approx([26 / 101, 51 / 101, 0.5])


def test_no_detections(dataset: dict[str, Any]) -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), (90, 120))
    assert evaluate(dataset, {10: nothing}).values["AP"] == 0.0


def test_detections_go_to_their_own_images(
    coco: dict[str, Any], tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read in threes, an unreadable one among them; the mean of an image stands for what is found on it."""
    (images / "7.png").write_bytes((images / "2.png").read_bytes())
    for index in (3, 4):
        cv2.imwrite(str(images / f"{index}.png"), np.full((90, 120, 3), index * 50, np.uint8))
    coco["images"] += [{"id": number, "file_name": f"{number}.png"} for number in (1, 3, 4)]
    file = tmp_path / "more.json"
    file.write_text(json.dumps(coco))
    sizes: list[tuple[int, float | None]] = []

    def detect(batch: list[Any], keep_ratio: float | None) -> list[Detections]:
        sizes.append((len(batch), keep_ratio))
        return [
            Detections(
                np.ones((1, 4), np.float32), np.array([image.mean()], np.float32), np.ones(1, np.int32), (90, 120)
            )
            for image in batch
        ]

    results: list[dict[int, Detections]] = []
    monkeypatch.setattr(accuracy, "evaluate", lambda dataset, found: results.append(found) or Accuracy({}, len(found)))
    said: list[str] = []
    contenders = [contender(0.1, 1), contender(0.3, 3)]
    read = Annotations.read(file, images)
    measured = measure_accuracy(contenders, {Path("x.onnx"): detect}, read, said.append)  # type: ignore[dict-item]
    assert [found.images for found in measured] == [5, 5]
    assert len(said) == 1
    assert "1.png" in said[0]
    assert sizes == [(3, 0.1), (3, 0.3), (2, 0.1), (2, 0.3)]
    expected = {key: cv2.imread(str(read.paths[key])).mean() for key in (10, 12, 17, 3, 4)}
    for found in results:
        assert {key: float(one.scores[0]) for key, one in found.items()} == pytest.approx(expected, rel=1e-6)


def test_none_that_can_be_read(annotations: Path, images: Path) -> None:
    read = Annotations.read(annotations, images)
    for path in read.paths.values():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of the annotated images can be read"):
        measure_accuracy([contender(None, 2)], {}, read, lambda text: None)


def contender(ratio: float | None, batch: int, class_names: tuple[str, ...] | None = None) -> Any:
    metadata = SimpleNamespace(class_names=class_names)
    title = f"x at ρ {ratio}"
    return SimpleNamespace(path=Path("x.onnx"), name="x", title=title, keep_ratio=ratio, batch=batch, metadata=metadata)


def measured(read: Annotations, label: int, class_names: tuple[str, ...] | None = None) -> list[str]:
    """What is warned of where a detector with ``class_names`` gives ``label``, and 3."""

    def detect(batch: list[Any], keep_ratio: float | None) -> list[Detections]:
        boxes, scores = np.array([[1, 1, 9, 9]] * 2, np.float32), np.array([0.9, 0.1], np.float32)
        return [Detections(boxes, scores, np.array([label, 3], np.int32), (90, 120)) for _ in batch]

    contenders = [contender(ratio, 1, class_names) for ratio in (0.1, 0.3)]
    said: list[str] = []
    measure_accuracy(contenders, {Path("x.onnx"): detect}, read, pytest.fail, warn=said.append)  # type: ignore[dict-item]
    return said


def test_labels_that_are_no_categories_are_told(annotations: Path, images: Path) -> None:
    read = Annotations.read(annotations, images)
    assert measured(read, 1) == []
    (text,) = measured(read, 0)
    assert text.startswith("x: ")
    for part in ("labels 0 (50 % of its detections)", "category ids 1, 3", "from 0"):
        assert part in text


def test_many_numbers_are_shortened() -> None:
    assert accuracy._listed(range(6, 0, -1)) == "1, 2, 3, 4, 5, 6"
    assert accuracy._listed(range(7, 0, -1)) == "1, 2 … 7 (7 of them)"


def test_classes_in_another_order_are_reported(annotations: Path, images: Path) -> None:
    read = Annotations.read(annotations, images)
    for alike in (("nothing", "Cat", "", "dog "), ("nothing", "cat"), (), None):
        assert measured(read, 1, alike) == []
    (text,) = measured(read, 1, ("nothing", "dog", "", "cat"))
    for part in ("x: 2 of 2 categories", "1 is 'cat' in the annotations and 'dog' in the artefact", "AP is of no use"):
        assert part in text


def test_sizes_that_are_not_the_images_are_reported(coco: dict[str, Any], tmp_path: Path, images: Path) -> None:
    file = tmp_path / "coco.json"
    coco["images"][0].update(width=120.0, height=90.0)  # as some tools write them
    for entry in coco["images"][1:]:
        entry.update(width=2 * entry["width"], height=2 * entry["height"])
    file.write_text(json.dumps(coco))
    (text,) = measured(Annotations.read(file, images), 1)
    for part in ("1 of 2 images", "2.png is 120×90 pixels, not 240×180", "AP is of no use"):
        assert part in text
    for entry in coco["images"]:
        entry.update(width=None)
    file.write_text(json.dumps(coco))
    assert measured(Annotations.read(file, images), 1) == []


def test_objects_that_nothing_can_find_are_counted(coco: dict[str, Any], tmp_path: Path, images: Path) -> None:
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(coco))
    assert Annotations.read(file, images).strays == 0
    coco["annotations"][0].update(image_id=99)
    coco["annotations"][1].update(category_id=2)
    file.write_text(json.dumps(coco))
    assert Annotations.read(file, images).strays == 2


def test_only_images_that_are_there(annotations: Path, images: Path) -> None:
    read = Annotations.read(annotations, images)
    assert read.paths == {10: images / "0.png", 12: images / "2.png"}
    assert read.absent == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coco: coco.pop("images"), "no list 'images'"),
        (lambda coco: coco.pop("annotations"), "no list 'annotations'"),
        (lambda coco: coco["annotations"][1].pop("bbox"), "no 'bbox'"),
        (lambda coco: coco["annotations"][1].update(bbox=[1, 2]), "bbox"),
        (lambda coco: coco["annotations"][1].update(bbox=["a", 2, 3, 4]), "bbox"),
        (lambda coco: coco["images"][0].update(id="first"), "entry 1 of 'images' has id 'first', no whole number"),
        (lambda coco: coco["images"][1].update(id=True), "entry 2 of 'images' has id True"),
        (lambda coco: coco["images"][1].update(file_name="n" * 5000 + ".png"), "entry 2 of 'images'.*file_name"),
        (lambda coco: coco["images"][1].update(file_name=["2.png"]), "entry 2 of 'images'.*file_name"),
        (lambda coco: coco["images"][1].update(file_name=""), "entry 2 of 'images'.*file_name"),
        (lambda coco: coco["images"].clear(), "'images' is empty"),
        (lambda coco: coco["annotations"].clear(), "'annotations' is empty"),
        (lambda coco: coco["categories"].clear(), "'categories' is empty"),
        (lambda coco: coco["categories"][1].update(id={}), "entry 2 of 'categories' has id {}"),
        (lambda coco: coco["categories"][1].update(id="3"), "entry 2 of 'categories' has id '3'"),
        (lambda coco: coco["annotations"][2].update(category_id=[3]), "entry 3 of 'annotations'.*category_id"),
        (lambda coco: coco["annotations"][2].update(category_id={"id": 3}), "entry 3 of 'annotations'.*category_id"),
        (lambda coco: coco["annotations"][2].update(category_id="3"), "entry 3 of 'annotations' has category_id '3'"),
        (lambda coco: coco["annotations"][2].update(image_id=[12]), "entry 3 of 'annotations'.*image_id"),
        (lambda coco: coco["annotations"][2].update(area=None), "entry 3 of 'annotations' has area None"),
        (lambda coco: coco["annotations"][2].update(area=float("nan")), "entry 3 of 'annotations' has area nan"),
        (lambda coco: coco["annotations"][2].update(iscrowd=None), "entry 3 of 'annotations' has iscrowd None"),
        (lambda coco: coco["annotations"][2].update(iscrowd="0"), "entry 3 of 'annotations' has iscrowd '0'"),
        (lambda coco: coco["annotations"][2].update(iscrowd=[]), "entry 3 of 'annotations'.*iscrowd"),
        (lambda coco: coco["annotations"][2].update(bbox=[1, 2, float("nan"), 4]), "entry 3 of 'annotations'.*bbox"),
        (lambda coco: coco["annotations"][2].update(bbox=[float("inf"), 2, 3, 4]), "entry 3 of 'annotations'.*bbox"),
        (lambda coco: coco["annotations"][2].update(bbox=[10**400, 2, 3, 4]), "more than 1000 bits"),
        (lambda coco: coco["annotations"][2].update(bbox=[1, 2, -3, 4]), "entry 3 of 'annotations'.*bbox"),
        (lambda coco: coco["annotations"][2].update(bbox=[1, 2, True, 4]), "entry 3 of 'annotations'.*bbox"),
        (
            lambda coco: [image.update(file_name=f"x{image['id']}.png") for image in coco["images"]],
            "none of the 3 images",
        ),
        (lambda coco: coco["images"].extend(coco["images"]), "entry 4 of 'images' has the id 10 of entry 1"),
        (lambda coco: coco["images"][2].update(id=12), "entry 3 of 'images' has the id 12 of entry 2"),
        (
            lambda coco: coco["images"][2].update(file_name="./0.png"),
            "entry 3 of 'images' has the file_name.* of entry 1",
        ),
        (lambda coco: coco["categories"][1].update(id=1), "entry 2 of 'categories' has the id 1 of entry 1"),
        (lambda coco: coco["images"][2].update(id=2**63), "entry 3 of 'images' has id 9223372036854775808"),
        (lambda coco: coco["images"][2].update(id=-(2**63) - 1), "entry 3 of 'images' has id"),
        (lambda coco: coco["annotations"][2].update(image_id=2**63 + 1), "entry 3 of 'annotations' has image_id"),
        (lambda coco: coco["categories"][1].update(id=2**64), "entry 2 of 'categories' has id"),
        (lambda coco: coco["images"][2].update(file_name="../2.png"), "entry 3 of 'images'.*it holds '\\.\\.'"),
        (lambda coco: coco["images"][2].update(file_name="/etc/2.png"), "entry 3 of 'images'.*it is absolute"),
        (lambda coco: coco["annotations"][2].update(bbox=[1e300, 2, 3, 4]), "entry 3 of 'annotations'.*bbox"),
        (lambda coco: coco["annotations"][2].update(area=1e300), "entry 3 of 'annotations'.*area"),
    ],
)
def test_not_coco(coco: dict[str, Any], change: Any, message: str, tmp_path: Path, images: Path) -> None:
    change(coco)
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(coco))
    with pytest.raises(InputError, match=message):
        Annotations.read(file, images)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "3", "[" * 100_000, "[" * 500 + "]" * 500, '{"images": 1' + "0" * 400 + "}", "\0"]
)
def test_no_json_object(text: str, tmp_path: Path, images: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"broken\.json"):
        Annotations.read(file, images)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "latin-1", "absent"])
def test_what_is_no_text_file(kind: str, tmp_path: Path, images: Path) -> None:
    file = unreadable(kind, tmp_path)
    with pytest.raises(InputError, match=f"the annotations {file} cannot be read"):
        Annotations.read(file, images)
