"""What a detector gives back."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

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
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(found.draw(image), dataclasses.replace(found, class_names=None).draw(image))


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


def test_draw_leaves_the_image_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    before = image.copy()
    assert (detections().draw(image) != before).any()
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(detections()[:0].draw(image), before)


def test_draw_on_something_else() -> None:
    with pytest.raises(InputError, match="the image is 30×30, but these detections are of one of 40×30"):
        detections().draw(np.zeros((30, 30, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="uint8"):
        detections().draw(np.zeros((30, 40, 3)))


def test_only_the_best_three_are_named() -> None:
    four = Detections(BOXES[[0, 1, 2, 2]], SCORES[[0, 1, 2, 2]], LABELS[[0, 1, 2, 2]], (30, 40))
    assert repr(four) == "Detections(4 in 40×30: 2 0.90, 0 0.50, 1 0.10)"


def test_what_was_found_is_not_changed_by_mistake() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        detections().scores = SCORES  # type: ignore[misc]


def test_corner_and_size_of_coco_add_up() -> None:
    """In double precision: in single, the size of a large box at an odd place would lose digits."""
    boxes = np.array([[0.1, 0.2, 1000.3, 700.7]], dtype=np.float32)
    x, y, width, height = Detections(boxes, SCORES[:1], LABELS[:1], (800, 1066)).to_coco(1)[0]["bbox"]
    assert [x, y, x + width, y + height] == boxes[0].tolist()


GREY = 128


def drawn(
    boxes: list[list[float]], labels: list[int], size: tuple[int, int] = (300, 400)
) -> tuple[NDArray[np.uint8], Detections]:
    """Detections on grey, the first with score 0.9, and what they look like."""
    scores = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)
    found = Detections(np.array(boxes, dtype=np.float32), scores, np.array(labels, dtype=np.int32), size)
    return found.draw(np.full((*size, 3), GREY, dtype=np.uint8)), found


# of the first labels, BGR: the hue moves on by the golden angle
COLOURS = {0: (51, 51, 235), 1: (235, 51, 155), 2: (235, 204, 51), 3: (51, 235, 100)}


def is_colour(pixels: NDArray[np.uint8], label: int) -> NDArray[np.bool_]:
    difference = np.abs(pixels.astype(int) - COLOURS[label])
    return np.asarray((difference <= 2).all(axis=-1))


@pytest.mark.parametrize(("scale", "line", "font"), [(1, 1, 0.35), (5, 4, 1.2)])
def test_draw_puts_a_frame_and_a_plate(scale: int, line: int, font: float) -> None:
    """One pixel wide with small letters on a small picture, wider and larger on one of 2000 pixels."""
    left, top, right, bottom = (scale * value for value in (50, 100, 200, 250))
    picture, _ = drawn([[left + 0.4, top - 0.4, right, bottom]], [1], (300 * scale, 400 * scale))
    touched = (picture != GREY).any(axis=-1)
    middle_row, middle_column = picture[(top + bottom) // 2], picture[:, (left + right) // 2]
    for pixels, first, last in ((middle_row, left, right), (middle_column, top, bottom)):
        places = np.flatnonzero((pixels != GREY).any(axis=-1))
        assert is_colour(pixels[places], 1).all()
        for place in (first, last):
            near = places[np.abs(places - place) <= 3 * line]
            assert line <= near.size <= line + 1
            assert near.min() <= place <= near.max()
    (width, height), baseline = cv2.getTextSize("1 0.90", cv2.FONT_HERSHEY_SIMPLEX, font, 1)
    plate = picture[top - height - baseline : top - line, left : left + width + 1]
    assert is_colour(plate[0], 1).all()
    assert is_colour(plate[:, -1], 1).all()
    assert 0.02 < (~is_colour(plate, 1)).mean() < 0.6  # the text
    # above it, to its right, and inside of the box there is nothing
    assert not touched[: top - height - baseline].any()
    assert not touched[: top - line, left + width + 1 :].any()
    assert not touched[top + line : bottom - line, left + line : right - line].any()


@pytest.mark.parametrize(("label", "ink"), [(0, 255), (1, 0), (2, 0), (3, 0)])
def test_the_text_is_black_on_light_colours_and_white_on_dark(label: int, ink: int) -> None:
    picture, _ = drawn([[50, 100, 200, 250]], [label])
    letters = picture[90:98, 50:85].reshape(-1, 3).astype(int)
    furthest = letters[np.abs(letters - COLOURS[label]).sum(axis=1).argmax()]
    assert np.abs(furthest - ink).max() < 60


def test_the_plate_of_a_box_at_the_top_is_in_the_picture() -> None:
    picture, _ = drawn([[50, 3, 200, 250]], [1])
    (width, height), baseline = cv2.getTextSize("1 0.90", cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
    plate = picture[: height + baseline, 50 : 50 + width]
    assert is_colour(plate[0], 1).all()
    below, _ = drawn([[50, 103, 200, 250]], [1])
    np.testing.assert_array_equal(plate[:-1], below[103 - height - baseline : 102, 50 : 50 + width])


def test_the_best_lie_on_top() -> None:
    picture, _ = drawn([[50, 100, 200, 250]] * 3, [1, 0, 2])
    assert is_colour(picture[100:250, 50], 1).all()
    alone, _ = drawn([[50, 100, 200, 250]], [1])
    np.testing.assert_array_equal(picture[102:], alone[102:])


def test_a_box_beyond_the_picture_is_cut() -> None:
    picture, _ = drawn([[-50, 100, 500, 250]], [3])
    assert is_colour(picture[250], 3).all()
    assert (picture[150] == GREY).all()


def test_all_are_drawn_and_on_a_small_picture_too() -> None:
    places = [[5, 30, 25, 50], [45, 30, 65, 50], [85, 30, 105, 50]]
    picture, _ = drawn(places, [1, 2, 3], (60, 110))
    for label, (left, top, right, bottom) in zip((1, 2, 3), places, strict=True):
        frame = [picture[top + 1 : bottom, left], picture[top + 1 : bottom, right], picture[bottom, left:right]]
        assert all(is_colour(side, label).all() for side in frame)
