"""Scenes of handwritten digits can be made again anywhere, and are what they say they are."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.training import scenes
from sparse_detr_deploy.training.digits import load_split
from sparse_detr_deploy.training.scenes import SceneSpec, render_scene


def test_a_scene_follows_from_seed_split_and_index() -> None:
    spec = SceneSpec()
    first, again = render_scene(spec, "val", 3, 7), render_scene(spec, "val", 3, 7)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    for other in (render_scene(spec, "val", 3, 8), render_scene(spec, "val", 4, 7), render_scene(spec, "train", 3, 7)):
        assert (other.image != first.image).mean() > 0.5


def test_no_source_digit_is_in_both_splits() -> None:
    train, val = load_split("train"), load_split("val")
    assert len(train.labels) + len(val.labels) == 1797
    assert set(train.labels) == set(val.labels) == set(range(10))
    both = {digit.tobytes() for digit in train.ink} & {digit.tobytes() for digit in val.ink}
    assert len(both) == 0


def test_objects_lie_inside_and_have_the_promised_sizes() -> None:
    spec = SceneSpec(height=128, width=192)
    rendered = [render_scene(spec, "train", 0, index) for index in range(60)]
    boxes = np.concatenate([scene.boxes for scene in rendered])
    assert all(scene.image.shape == (128, 192, 3) and scene.image.dtype == np.uint8 for scene in rendered)
    assert boxes[:, :2].min() >= 0
    assert (boxes[:, 2:] <= (192, 128)).all()
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert spec.sizes[0] - 2 <= longer.min() < 16  # anti-aliasing takes up to a pixel from each side
    assert 70 < longer.max() <= spec.sizes[1] + 2
    assert max(len(scene.labels) for scene in rendered) <= spec.objects[1]


def test_boxes_are_tight_and_digits_stand_out() -> None:
    """Without clutter and noise the only thing on the image is the digit, and its box is what differs."""
    spec = SceneSpec(objects=(1, 1), distractors=(0, 0), strokes=(0, 0), empty_share=0.0, sizes=(40, 60))
    for index in range(10):
        scene = render_scene(spec, "train", 0, index)
        x1, y1, x2, y2 = scene.boxes[0].astype(int)
        inside = scene.image[y1:y2, x1:x2].astype(float).mean(-1)
        around = np.concatenate([scene.image[:y1].reshape(-1, 3), scene.image[y2:].reshape(-1, 3)]).mean()
        different = abs(inside - around) > 35
        assert 0.15 < different.mean() < 0.95
        assert all(edge.any() for edge in (different[:3], different[-3:], different[:, :3], different[:, -3:]))


def test_a_box_holds_all_of_a_digit_and_nothing_else() -> None:
    """On an even canvas what has changed is the box, to the pixel."""
    rng = np.random.default_rng(0)
    for size in (14.0, 30.0, 60.0):
        canvas = np.full((96, 128, 3), 50, np.float32)
        placed = scenes._place(canvas, load_split("train"), size, True, [], SceneSpec(height=96, width=128), rng)
        assert placed is not None
        changed = (canvas != 50).any(-1)
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        assert placed[0].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert size - 4 < max(len(rows), len(columns)) < size + 4


def test_digits_hardly_cover_each_other() -> None:
    """At most a tenth of the smaller one, distractors included."""
    spec = SceneSpec(height=128, width=128, objects=(7, 7), distractors=(0, 0), empty_share=0.0, sizes=(30, 60))
    crowded = 0
    for index in range(12):
        boxes = render_scene(spec, "train", 0, index).boxes
        crowded += len(boxes) < 7  # no room for all of them
        for one, other in itertools.combinations(boxes, 2):
            overlap = np.prod(np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None))
            smaller = min(np.prod(box[2:] - box[:2]) for box in (one, other))
            assert overlap <= 0.1 * smaller
    assert crowded > 0


def test_distractors_have_no_label() -> None:
    spec = SceneSpec(height=96, width=96, objects=(0, 0), distractors=(3, 3), strokes=(0, 0), empty_share=0.0)
    plain = dataclasses.replace(spec, distractors=(0, 0))
    scene, empty = render_scene(spec, "val", 0, 0), render_scene(plain, "val", 0, 0)
    assert len(scene.labels) == len(scene.boxes) == 0
    bright = [(one.image.astype(int).mean(-1) > 150).sum() for one in (scene, empty)]
    assert bright[0] > 100 > bright[1]


def test_some_scenes_are_empty() -> None:
    scene = next(
        scene
        for index in range(100)
        if not len((scene := render_scene(SceneSpec(empty_share=0.3, height=96, width=96), "train", 0, index)).labels)
    )
    assert scene.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objects": (5, 2)}, "objects is 5 to 2"),
        ({"sizes": (12, 200)}, "do not fit"),
        ({"sizes": (4, 90)}, "below 8"),
        ({"rotation": 180.0}, "6 and 9"),
        ({"empty_share": 1.0}, "empty_share"),
        ({"empty_share": -0.1}, "empty_share"),
        ({"rotation": 30.5}, "30.5°"),
        ({"rotation": -1.0}, "-1.0°"),
        ({"objects": (0, 1001)}, "at most 1000"),
        ({"height": 4097}, "4097×160"),
        ({"width": 0}, "160×0"),
        ({"width": 95}, "do not fit"),
    ],
)
def test_impossible_scenes(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SceneSpec(**changes)  # type: ignore[arg-type]


def test_the_ends_of_what_is_possible() -> None:
    SceneSpec(height=4096, width=96, objects=(1000, 1000), sizes=(8, 96), rotation=30.0, empty_share=0.0)
    SceneSpec(rotation=0.0, objects=(0, 0), empty_share=0.99)


def test_unknown_split() -> None:
    with pytest.raises(InputError, match="split 'test'"):
        load_split("test")
