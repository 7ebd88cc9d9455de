"""What the tests of the engine runner share: artefacts, images, and comparing outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparse_detr_deploy import Detector
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.conftest import NAMES

IMAGES = [synthetic_image(seed, *size) for seed, size in enumerate([(96, 128), (240, 90), (50, 200), (300, 400)])]
# as other tests have them too, so that each is exported once
VARIANTS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "dynamic": {"dynamic_rho": True, "class_names": NAMES},
    "padded": {"padded": True},
    "raw": {"outputs": "raw"},
    "uint8": {"uint8_input": True},
    "batched": {"batch": (1, 2, 4)},
}
Make = Callable[..., Path]


def feed_of(runner: TensorRTRunner, seed: int = 0, batch: int = 1) -> dict[str, np.ndarray]:
    with_images = Detector(runner)
    return with_images.preprocess([IMAGES[(seed + index) % len(IMAGES)] for index in range(batch)])


def assert_same_outputs(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    assert list(expected) == list(found)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)
