"""Box arithmetic of the losses."""

from __future__ import annotations

import torch
from torch import Tensor


def corners(boxes: Tensor) -> Tensor:
    """(cx, cy, w, h) to (x1, y1, x2, y2), [..., 4]."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def generalized_iou(one: Tensor, other: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al. 2019) of boxes (cx, cy, w, h) [..., 4], broadcast: [...] in −1..1."""
    first, second = corners(one), corners(other)
    overlap = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    hull = (torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    intersection, hull_area = overlap.prod(-1), hull.prod(-1)
    union = one[..., 2:].prod(-1) + other[..., 2:].prod(-1) - intersection
    return intersection / union - (hull_area - union) / hull_area
