"""Each image of a batch is looked at, and named by its place."""

from __future__ import annotations

import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.preprocessing import check_images, prepare
from tests.runtime.test_metadata import PLAIN

IMAGE = np.zeros((30, 40, 3), np.uint8)


def test_the_image_that_is_none() -> None:
    check_images([IMAGE, IMAGE])
    with pytest.raises(InputError, match=r"image 1 is uint8 \[30, 40\], a grey image"):
        check_images([IMAGE, IMAGE[:, :, 0], IMAGE[0]])


@pytest.mark.parametrize("images", ["frames", b"frames", IMAGE, IMAGE[:, :, 0], None, 7, {IMAGE.shape: IMAGE}])
def test_what_is_no_batch(images: object) -> None:
    for check in (check_images, lambda images: prepare(images, PLAIN)):
        with pytest.raises(InputError, match=rf"images is a {type(images).__name__}: give the list of the arrays"):
            check(images)


def test_what_is_one() -> None:
    check_images((IMAGE,))
    check_images(np.stack([IMAGE, IMAGE]))
    with pytest.raises(InputError, match="images is empty"):
        prepare([], PLAIN)
    with pytest.raises(InputError, match=r"image 0 is float64 \[30, 40, 3\]"):
        prepare([IMAGE / 255], PLAIN)
