"""Token arithmetic: how many tokens a canvas gives, how many are image, how many a keep ratio keeps.

Shared by the networks, the exporter and the runners, so it needs numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.arguments import as_number
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.short_repr import short_repr

LevelShapes = tuple[tuple[int, int], ...]


def check_keep_ratio(keep_ratio: float) -> float:
    """Return ``keep_ratio`` as a float in (0, 1], or raise :class:`InputError`."""
    value = as_number(keep_ratio)
    if not 0.0 < value <= 1.0:
        raise InputError(
            f"the keep ratio ρ is {short_repr(keep_ratio)}, but it is a share of the tokens: give a number above 0 and up to 1"
        )
    return value


def nearest_index(output_size: int, input_size: int) -> NDArray[np.int64]:
    """Source index of each output position of a nearest-neighbour resize (``torch.nn.functional.interpolate``).

    Returns int64 [output_size]. Computed in float32, as PyTorch does.
    """
    scale = np.float32(input_size) / np.float32(output_size)
    index: NDArray[np.int64] = np.floor(np.arange(output_size, dtype=np.float32) * scale).astype(np.int64)
    index.clip(max=input_size - 1, out=index)
    return index


def valid_level_shapes(image_size: Sequence[int], canvas: Sequence[int], level_shapes: LevelShapes) -> LevelShapes:
    """(h, w) of the part of each level that shows image, for an image of ``image_size`` (h, w) at the top left of ``canvas``."""
    (height, width), (canvas_height, canvas_width) = image_size, canvas
    return tuple(
        (
            int((nearest_index(rows, canvas_height) < height).sum()),
            int((nearest_index(columns, canvas_width) < width).sum()),
        )
        for rows, columns in level_shapes
    )


def num_tokens(level_shapes: LevelShapes) -> int:
    """Tokens of all levels together."""
    return sum(height * width for height, width in level_shapes)


def num_keep(valid_tokens: int, keep_ratio: float, total_tokens: int) -> int:
    """Tokens that the encoder refines: ``int(ρ · valid) + 1``, at most all of them.

    The product is taken in float32, as in the original implementation, so that the count is the same to the token.
    """
    count = int(np.float32(valid_tokens) * np.float32(check_keep_ratio(keep_ratio))) + 1
    return min(count, total_tokens)
