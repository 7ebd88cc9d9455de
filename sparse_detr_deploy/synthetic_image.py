"""Images for where none are at hand: verification and timing."""

from __future__ import annotations

import numpy as np

from sparse_detr_deploy.images import Image


def synthetic_image(seed: int, height: int, width: int) -> Image:
    """A uint8 BGR image [H, W, 3] of smooth blobs and noise, the same for the same seed."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = generator.normal(110, 20, (height, width, 3)).astype(np.float32)
    for _ in range(12):
        centre_y, centre_x = generator.uniform(0, height), generator.uniform(0, width)
        radius = generator.uniform(0.04, 0.25) * min(height, width)
        blob = np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * radius * radius))
        image += blob[:, :, None] * generator.uniform(-120, 120, 3).astype(np.float32)
    return image.clip(0, 255).astype(np.uint8)
