"""Which tokens a keep ratio keeps, drawn over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.images import Image
from sparse_detr_deploy.opencv import cv2
from sparse_detr_deploy.tokens import LevelShapes

_DARK = 0.2  # brightness where no level keeps a token


def draw_kept_tokens(image: Image, level_shapes: LevelShapes, kept: NDArray[np.int64]) -> Image:
    """A copy of ``image`` that is bright where tokens are kept: full brightness where every level keeps its own.

    Args:
        image: uint8 BGR [H, W, 3] that fills the canvas.
        level_shapes: (h, w) of each level; tokens are numbered level by level, row by row.
        kept: numbers of the kept tokens [K].
    """
    height, width = image.shape[:2]
    light = np.zeros((height, width), dtype=np.float32)
    start = 0
    for rows, columns in level_shapes:
        mask = np.zeros(rows * columns, dtype=np.float32)
        mask[kept[(kept >= start) & (kept < start + mask.size)] - start] = 1
        start += mask.size
        light += cv2.resize(mask.reshape(rows, columns), (width, height), interpolation=cv2.INTER_NEAREST)
    brightness = _DARK + (1 - _DARK) * light / len(level_shapes)
    return np.asarray((image * brightness[:, :, None]).astype(np.uint8))
