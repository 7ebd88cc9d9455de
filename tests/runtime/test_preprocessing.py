"""Images to inputs and boxes back to pixels."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.metadata import IMAGENET_MEAN, IMAGENET_STD, Metadata
from sparse_detr_deploy.postprocessing import best_pairs
from sparse_detr_deploy.preprocessing import fitted_size, prepare, resized, to_pixels
from sparse_detr_deploy.synthetic_image import synthetic_image

LEVELS = ((12, 16), (6, 8), (3, 4), (2, 2))
STRETCH = Metadata(name="x", architecture="r50", model={}, height=96, width=128, level_shapes=LEVELS, rho=0.3)
FIT = dataclasses.replace(STRETCH, padded=True)
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
SIDE = st.integers(1, 4000)


@given(SIDE, SIDE, st.integers(32, 1333), st.integers(32, 1333))
def test_fitted_images_keep_their_aspect_and_touch_the_canvas(height: int, width: int, rows: int, columns: int) -> None:
    metadata = dataclasses.replace(FIT, height=rows, width=columns)
    fitted = fitted_size((height, width), metadata)
    assert 1 <= fitted[0] <= rows
    assert 1 <= fitted[1] <= columns
    assert fitted[0] == rows or fitted[1] == columns
    scale = min(rows / height, columns / width)
    assert abs(fitted[0] - height * scale) <= 1
    assert abs(fitted[1] - width * scale) <= 1


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((97, 150), (83, 128)),  # 82.77 rows
        ((150, 90), (96, 58)),  # 57.6 columns
        ((100, 150), (85, 128)),  # 85.33 rows
        ((150, 97), (96, 62)),  # 62.08 columns
        ((3000, 10), (96, 1)),  # 0.32 columns
        ((10, 3999), (1, 128)),  # 0.32 rows
        ((48, 64), (96, 128)),
        ((1, 1), (96, 96)),
    ],
)
def test_fitted_sizes_are_rounded_to_the_nearest(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    """Up as well as down, and to no less than a pixel; the rows and columns that are filled are those that are told."""
    assert fitted_size(size, FIT) == fitted
    feed = prepare([np.full((*size, 3), 255, dtype=np.uint8)], dataclasses.replace(FIT, input_dtype="uint8"))
    assert feed["image_sizes"].tolist() == [list(fitted)]
    expected = np.zeros((96, 128), dtype=np.uint8)
    expected[: fitted[0], : fitted[1]] = 255
    np.testing.assert_array_equal(feed["images"][0], [expected] * 3)


@given(SIDE, SIDE)
def test_stretched_images_fill_the_canvas(height: int, width: int) -> None:
    assert fitted_size((height, width), STRETCH) == (96, 128)


def test_normalisation() -> None:
    batch = prepare([IMAGE], STRETCH)["images"]
    expected = (IMAGE[:, :, ::-1].astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0], expected.transpose(2, 0, 1), atol=1e-5)


def test_uint8_artefacts_get_the_pixels() -> None:
    batch = prepare([IMAGE], dataclasses.replace(STRETCH, input_dtype="uint8"))["images"]
    np.testing.assert_array_equal(batch[0], IMAGE[:, :, ::-1].transpose(2, 0, 1))


def test_colours() -> None:
    flipped = np.ascontiguousarray(IMAGE[:, :, ::-1])
    np.testing.assert_array_equal(prepare([flipped], STRETCH, "rgb")["images"], prepare([IMAGE], STRETCH)["images"])
    with pytest.raises(InputError, match="'hsv' is not one of bgr, rgb"):
        prepare([IMAGE], STRETCH, "hsv")


@settings(max_examples=25)
@given(st.integers(1, 400), st.integers(1, 400), st.booleans())
def test_every_size_is_taken(height: int, width: int, padded: bool) -> None:
    image = np.full((height, width, 3), 200, dtype=np.uint8)
    metadata = dataclasses.replace(STRETCH, padded=padded)
    feed = prepare([image], metadata)
    batch = feed["images"]
    assert batch.shape == (1, 3, 96, 128)
    rows, columns = feed["image_sizes"][0] if padded else (96, 128)
    value = (200 / 255 - np.array(IMAGENET_MEAN)) / IMAGENET_STD
    np.testing.assert_allclose(
        batch[0, :, :rows, :columns], np.broadcast_to(value[:, None, None], (3, rows, columns)), atol=1e-5
    )
    assert not batch[0, :, rows:].any()
    assert not batch[0, :, :, columns:].any()


def test_views_and_read_only_arrays() -> None:
    wide = np.zeros((192, 256, 3), dtype=np.uint8)
    wide[::2, ::2] = IMAGE
    view = wide[::2, ::2]
    view.flags.writeable = False
    np.testing.assert_array_equal(prepare([view], STRETCH)["images"], prepare([IMAGE], STRETCH)["images"])
    backwards = np.ascontiguousarray(IMAGE[::-1])[::-1]
    np.testing.assert_array_equal(prepare([backwards], STRETCH)["images"], prepare([IMAGE], STRETCH)["images"])


def test_shrinking_averages() -> None:
    checks = np.indices((192, 256)).sum(0) % 2 * 255
    batch = prepare([np.dstack([checks.astype(np.uint8)] * 3)], dataclasses.replace(STRETCH, input_dtype="uint8"))[
        "images"
    ]
    assert abs(int(batch.min()) - 128) <= 1
    assert abs(int(batch.max()) - 128) <= 1


def test_counts_of_a_dynamic_artefact() -> None:
    dynamic = dataclasses.replace(STRETCH, dynamic_rho=True)
    assert prepare([IMAGE, IMAGE], dynamic, keep_ratio=0.5)["num_keep"].tolist() == [129]
    padded = dataclasses.replace(dynamic, padded=True)
    feed = prepare([IMAGE, IMAGE[:, :64]], padded, keep_ratio=0.5)
    assert feed["image_sizes"].tolist() == [[96, 128], [96, 64]]
    assert feed["num_keep"].tolist() == [129, 65]
    assert feed["num_keep"].dtype == feed["image_sizes"].dtype == np.int64


@given(st.lists(st.tuples(*[st.floats(-2, 3, width=32)] * 4), min_size=1, max_size=5), SIDE, SIDE)
def test_boxes_lie_in_the_image(boxes: list[tuple[float, ...]], height: int, width: int) -> None:
    pixels = to_pixels(np.array(boxes, dtype=np.float32), (height, width))
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert (pixels[:, [0, 2]] <= width).all()
    assert (pixels[:, [1, 3]] <= height).all()


def test_best_pairs() -> None:
    logits = np.array([[-1000, 3.0], [2.0, 1000]], dtype=np.float32)
    boxes = np.array([[0.5, 0.5, 1, 1], [0.2, 0.4, 0.2, 0.4]], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        corners, scores, labels = best_pairs(logits, boxes, 4)
    assert labels.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(scores, [1, 0.952574, 0.880797, 0], atol=1e-6)
    np.testing.assert_allclose(corners[0], [0.1, 0.2, 0.3, 0.6], atol=1e-6)
    assert scores.dtype == corners.dtype == np.float32


def test_the_resize_is_that_of_opencv() -> None:
    small, large = IMAGE[:50, :60], np.tile(IMAGE, (3, 3, 1))
    metadata = dataclasses.replace(STRETCH, input_dtype="uint8")
    for image, method in ((small, cv2.INTER_LINEAR), (large, cv2.INTER_AREA)):
        expected = cv2.resize(image, (128, 96), interpolation=method)[:, :, ::-1].transpose(2, 0, 1)
        np.testing.assert_array_equal(prepare([image], metadata)["images"][0], expected)


@pytest.mark.parametrize("height", [48, 96, 130, 192])
@pytest.mark.parametrize("turned", [False, True])
def test_stripes_across_one_axis_are_averaged_whatever_the_other_does(height: int, turned: bool) -> None:
    stripes = np.tile(np.array([0, 255, 255, 0], dtype=np.uint8), 128)
    image = np.broadcast_to(stripes[None, :, None], (96, 512, 3))
    found = resized(image.transpose(1, 0, 2), 128, height) if turned else resized(image, height, 128)
    assert found.shape[:2] == ((128, height) if turned else (height, 128))
    assert 127 <= found.min() <= found.max() <= 128


@pytest.mark.parametrize("size", [(96, 512), (300, 400), (50, 200), (240, 90), (33, 40), (96, 60), (500, 128)])
def test_the_resize_is_close_to_the_antialiased_one_of_the_original(size: tuple[int, int]) -> None:
    image = synthetic_image(3, *size)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = F.interpolate(pixels, (96, 128), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    difference = np.abs(resized(image, 96, 128) - expected)
    assert difference.max() < 20  # a box and a triangle over its noise; without averaging 30 to 62


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**31))
def test_both_axes_are_resized_each_by_its_own_rule(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = axis_weights(height, 96), axis_weights(width, 128)
    expected = np.einsum("ih,jw,hwc->ijc", rows, columns, image.astype(np.float64), optimize=True)
    assert np.abs(resized(image, 96, 128) - expected).max() <= 1.6  # rounded, and twice where one axis grows


def axis_weights(size: int, target: int) -> np.ndarray:
    """[target, size] weights of a resize along one axis: mean over the pixels it covers, or linear between two."""
    weights = np.zeros((target, size))
    scale = size / target
    for index in range(target):
        if size > target:
            first, last = index * scale, (index + 1) * scale
            for pixel in range(int(first), min(size, int(np.ceil(last)))):
                weights[index, pixel] = max(0, min(last, pixel + 1) - max(first, pixel)) / scale
            continue
        place = min(max((index + 0.5) * scale - 0.5, 0), size - 1)
        share = place - int(place)
        weights[index, int(place)] += 1 - share
        weights[index, min(int(place) + 1, size - 1)] += share
    return weights
