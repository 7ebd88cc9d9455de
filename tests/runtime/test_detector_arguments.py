"""Odd arguments of a detector's methods are refused with a reason; those of NumPy are taken."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy import Detector, InputError
from tests.conftest import Export
from tests.matching import arrays, assert_same_detections
from tests.runtime.test_detector import IMAGES


@pytest.fixture(scope="module")
def detector(export_tiny: Export):
    with Detector.load(export_tiny().path) as detector:
        yield detector


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0].astype(np.float32), "the image is float32"),
        (IMAGES[0][:, :, 0], "grey"),
        (np.zeros((5, 5, 4), dtype=np.uint8), "alpha"),
        (np.zeros((0, 5, 3), dtype=np.uint8), "no pixels"),
        (np.stack([IMAGES[0]] * 2), "a batch is a list of images"),
        ([IMAGES[0], IMAGES[0][:, :, 0]], "image 1 .*grey"),
        ([IMAGES[0], None], "image 1 is a NoneType"),
        ([IMAGES[0], "nowhere.jpg"], "nowhere.jpg cannot be read"),
        (None, "images is a NoneType"),
        (3, "images is a int"),
        (b"bytes", "images is a bytes"),
        ((image for image in IMAGES), "images is a generator"),
        ({0: IMAGES[0]}, "images is a dict"),
        ({"x.png"}, "images is a set"),
        ([[IMAGES[0]]], "image 0 is a list"),
        ([b"x.png"], "image 0 is a bytes"),
        (range(3), "image 0 is a int"),
        (np.ma.masked_array(IMAGES[0], IMAGES[0] > 9), "the image is a masked array"),
        (np.array([[[None] * 3]]), "the image is object"),
        (np.array(7, dtype=np.uint8), r"the image is uint8 \[\]"),
        ([np.array("x.png")], "image 0 is <U5"),
        ("null\0.png", "cannot be read"),
        (["a.png", "null\0.png"], r"image 0: a\.png cannot be read"),
    ],
)
def test_images_that_are_refused(detector: Detector, images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector(images)  # type: ignore[call-overload]


def test_arrays_of_every_layout(detector: Detector) -> None:
    image = IMAGES[3]
    expected = arrays(detector(image))
    wide = np.zeros((600, 800, 3), dtype=np.uint8)
    wide[::2, ::-2] = image
    read_only = image.copy()
    read_only.flags.writeable = False
    layouts = [
        wide[::2, ::-2],
        read_only,
        np.asfortranarray(image),
        image.astype(">u1"),
        image[::-1].copy()[::-1],
        image.view(np.recarray),
    ]
    for other in layouts:
        assert_same_detections(expected, arrays(detector(other)), 1e-6, 1e-3)
    for found in detector(collections.deque(layouts)):
        assert_same_detections(expected, arrays(found), 1e-5, 1e-2)
    constant = np.broadcast_to(np.array([9, 80, 200], dtype=np.uint8), (300, 400, 3))
    assert_same_detections(arrays(detector(constant.copy())), arrays(detector(constant)), 1e-6, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(({"score_threshold": value}, "score_threshold is ") for value in (None, "0.5", 50, -0.1, True, [0.5], 1j)),
        *(({"score_threshold": value}, "score_threshold is ") for value in (np.array([0.1, 0.5]), np.array(0.5))),
        ({"score_threshold": float("nan")}, "score_threshold is nan, but scores go from 0 to 1"),
        *(({"color": value}, "is not one of bgr, rgb") for value in (None, ["bgr"], 3, b"bgr", "", "BGR")),
        *(({"color": value}, "is not one of bgr, rgb") for value in (np.array(["bgr", "rgb"]), np.array([1, 2, 3]))),
        *(({"max_pixels": value}, "max_pixels is ") for value in (None, 0, -1, 1.5, "9", True, np.array([9, 9]))),
    ],
)
def test_odd_arguments(detector: Detector, arguments: dict[str, Any], message: str) -> None:
    for images in (IMAGES[0], [IMAGES[0]], []):
        with pytest.raises(InputError, match=message):
            detector(images, **arguments)


def test_arguments_of_numpys_types(detector: Detector) -> None:
    everything = detector(IMAGES[0])
    for threshold in (np.float32(0), np.int64(0), everything.scores[7], np.float64(everything.scores[7])):
        expected = 20 if threshold == 0 else 8
        assert len(detector(IMAGES[0], score_threshold=threshold, color=np.str_("bgr"))) == expected


@pytest.mark.parametrize("iterations", [-1, 1.5, "2", None, True, np.array([1, 2])])
def test_warmups_that_are_none(detector: Detector, iterations: Any) -> None:
    with pytest.raises(InputError, match="iterations is .*, but a whole number of at least 0 is needed"):
        detector.warmup(iterations)


def test_warmups(detector: Detector) -> None:
    detector.warmup(0)
    detector.warmup(np.int64(1), keep_ratio=0.3)
    with pytest.raises(InputError, match="fixed at"):
        detector.warmup(1, keep_ratio=0.5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images is empty"),
        (None, "images is a NoneType"),
        (IMAGES[0], "images is a ndarray: give the list of the arrays"),
        ("x.png", "images is a str"),
        (iter([IMAGES[0]]), "images is a list_iterator"),
        (["x.png"], "image 0 is a str"),
        ([IMAGES[0], None], "image 1 is a NoneType"),
        ([IMAGES[0][:, :, 0]], "image 0 .*grey"),
        ([IMAGES[0].astype(np.float32)], "image 0 is float32"),
        (np.zeros((0, 9, 9, 3), np.uint8), "images is empty"),
    ],
)
def test_batches_that_cannot_be_prepared(detector: Detector, images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector.preprocess(images)


def test_preprocessing_refuses_odd_colours(detector: Detector) -> None:
    for color in (None, np.array(["bgr", "rgb"]), ["bgr"]):
        with pytest.raises(InputError, match="is not one of bgr, rgb"):
            detector.preprocess([IMAGES[0]], color=color)  # type: ignore[arg-type]
