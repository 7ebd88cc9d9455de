"""Each image of a batch is looked at, and named by its place."""

from __future__ import annotations

import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.preprocessing import check_images

IMAGE = np.zeros((30, 40, 3), np.uint8)


def test_the_image_that_is_none() -> None:
    check_images([IMAGE, IMAGE])
    with pytest.raises(InputError, match=r"image 1 is uint8 \[30, 40\], a grey image"):
        check_images([IMAGE, IMAGE[:, :, 0], IMAGE[0]])
