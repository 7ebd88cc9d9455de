"""What is on the images of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Targets:
    """Objects of B images, filled up to the largest number T of one image (at least 1).

    Attributes:
        labels: [B, T] int64, 0 where filled up.
        boxes: [B, T, 4] float32 (cx, cy, w, h) in 0..1 of the image, an arbitrary box where filled up.
        counts: objects of each image.
    """

    labels: Tensor
    boxes: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, labels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Targets:
        """From the labels [n] and boxes [n, 4] of each image; n may be 0."""
        counts = tuple(len(entry) for entry in labels)
        most = max([1, *counts])
        device = labels[0].device
        all_labels = torch.zeros(len(counts), most, dtype=torch.int64, device=device)
        all_boxes = torch.full((len(counts), most, 4), 0.5, device=device)
        for index, count in enumerate(counts):
            all_labels[index, :count] = labels[index]
            all_boxes[index, :count] = boxes[index]
        return cls(all_labels, all_boxes, counts)

    @property
    def total(self) -> int:
        """Objects of all images."""
        return sum(self.counts)

    def to(self, device: torch.device) -> Targets:
        """The same on ``device``."""
        return Targets(self.labels.to(device), self.boxes.to(device), self.counts)
