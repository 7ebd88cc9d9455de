"""What a detector gives back."""

from __future__ import annotations

import json
import pickle
import sys
from fractions import Fraction

import numpy as np
import pytest

from sparse_detr_deploy import BackendError, Detections, InputError

BOXES = np.array([[1, 2, 11, 22], [0, 0, 40, 30], [5, 5, 6, 6]], dtype=np.float32)
SCORES = np.array([0.9, 0.5, 0.1], dtype=np.float32)
LABELS = np.array([2, 0, 1], dtype=np.int32)


def detections(names: tuple[str, ...] | None = ("cat", "dog", "bird")) -> Detections:
    return Detections(BOXES, SCORES, LABELS, (30, 40), names)


def test_names() -> None:
    assert detections().names == ["bird", "cat", "dog"]
    assert detections(None).names == ["2", "0", "1"]
    assert detections(("cat",)).names == ["2", "cat", "1"]


def test_labels_outside_the_names_are_shown_as_their_numbers() -> None:
    found = Detections(BOXES, SCORES, np.array([-1, 3, -(2**31)], dtype=np.int32), (30, 40), ("cat", "dog", "bird"))
    assert found.names == ["-1", "3", "-2147483648"]
    assert "-1 0.90" in repr(found)
    assert [result["category_id"] for result in found.to_coco(1)] == [-1, 3, -(2**31)]
    assert found.draw(np.zeros((30, 40, 3), dtype=np.uint8)).any()


def test_repr() -> None:
    assert repr(detections()) == "Detections(3 in 40×30: bird 0.90, cat 0.50, dog 0.10)"
    assert repr(detections()[:0]) == "Detections(0 in 40×30)"


def test_selections() -> None:
    found = detections()
    assert found[0].labels.tolist() == [2]
    assert found[-1].labels.tolist() == [1]
    assert found[:2].labels.tolist() == [2, 0]
    assert found[[2, 0]].labels.tolist() == [1, 2]
    assert found[found.labels == 0].scores.tolist() == [0.5]
    assert found[np.zeros(3, dtype=bool)].boxes.shape == (0, 4)
    assert [len(one) for one in found] == [1, 1, 1]
    assert found[0].class_names == found.class_names
    assert found.above(0.5).scores.tolist() == pytest.approx([0.9, 0.5])
    with pytest.raises(IndexError):
        found[3]


def test_comparing_and_copying() -> None:
    found = detections()
    assert found == found
    assert found != detections()
    assert len({found, detections()}) == 2
    assert pickle.loads(pickle.dumps(found)).boxes.tolist() == found.boxes.tolist()


def test_to_coco() -> None:
    results = json.loads(json.dumps(detections().to_coco(17)))
    assert results[0] == {"image_id": 17, "category_id": 2, "bbox": [1, 2, 10, 20], "score": pytest.approx(0.9)}
    assert [result["category_id"] for result in results] == [2, 0, 1]
    assert detections()[:0].to_coco(1) == []


def test_image_ids() -> None:
    for given, written in ((np.int64(7), 7), (np.uint8(7), 7), (7, 7), ("a7", "a7"), (-1, -1)):
        assert json.loads(json.dumps(detections().to_coco(given)))[0]["image_id"] == written
    for odd in (None, 1.5, np.array([7]), True, [7]):
        with pytest.raises(InputError, match="image_id is .*, but a whole number is needed"):
            detections().to_coco(odd)  # type: ignore[arg-type]


def test_thresholds() -> None:
    for score in (0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2)):
        assert len(detections().above(score)) == 2
    assert [len(detections().above(score)) for score in (0, 1, np.int64(1))] == [3, 0, 0]
    for odd in (None, "0.5", float("nan"), 50, -0.1, True, np.array([0.5]), np.array(0.5), [0.5], 10**400, 10**5000):
        with pytest.raises(InputError, match="score is .*, but scores go from 0 to 1"):
            detections().above(odd)  # type: ignore[arg-type]


def test_to_supervision_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(BackendError, match="pip install supervision"):
        detections().to_supervision()


def test_to_supervision() -> None:
    import supervision

    converted = detections().to_supervision()
    assert isinstance(converted, supervision.Detections)
    np.testing.assert_array_equal(converted.xyxy, BOXES)
    np.testing.assert_array_equal(converted.confidence, SCORES)
    assert converted.class_id.tolist() == [2, 0, 1]
    assert converted.class_id.dtype == int
    assert converted["class_name"].tolist() == ["bird", "cat", "dog"]
    assert converted[converted.class_id == 0]["class_name"].tolist() == ["cat"]


def test_no_detections_to_supervision() -> None:
    converted = detections()[:0].to_supervision()
    assert len(converted) == 0
    assert converted.xyxy.shape == (0, 4)
    assert converted.data["class_name"].shape == (0,)


def test_draw() -> None:
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    drawn = detections().draw(image)
    assert drawn.shape == image.shape
    assert drawn.any()
    assert not image.any()
    assert not detections()[:0].draw(image).any()


def test_draw_on_something_else() -> None:
    with pytest.raises(InputError, match="the image is 30×30, but these detections are of one of 40×30"):
        detections().draw(np.zeros((30, 30, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="uint8"):
        detections().draw(np.zeros((30, 40, 3)))
