"""One-to-one assignment of predictions to objects (DETR, §3.1; costs of Deformable DETR)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.training.boxes import generalized_iou
from sparse_detr_deploy.training.targets import Targets

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # of the focal loss (Lin et al. 2017), in the costs as in the losses
_IMPOSSIBLE = 1e6


@dataclasses.dataclass(frozen=True)
class Match:
    """The m matched pairs of a batch: ``image``, ``prediction`` and ``target`` are [m] int64 indices."""

    image: Tensor
    prediction: Tensor
    target: Tensor


@dataclasses.dataclass(frozen=True)
class HungarianMatcher:
    """Assignment of least cost ``class_weight`` · focal + ``l1_weight`` · L1 − ``giou_weight`` · GIoU."""

    class_weight: float = 2.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0

    @torch.no_grad()
    def __call__(self, prediction: Prediction, targets: Targets, usable: Tensor | None = None) -> Match:
        """Match each object with one prediction.

        Args:
            prediction: logits [B, n, C], boxes [B, n, 4].
            targets: objects of the B images.
            usable: [B, n] bool, predictions that may be matched; default: all.

        Raises:
            FloatingPointError: a prediction is NaN or infinite.
        """
        try:
            from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
        except ImportError:
            raise BackendError("scipy is not installed: pip install 'sparse-detr-deploy[train]'") from None
        cost = self._cost(prediction, targets)
        if usable is not None:
            cost = cost.masked_fill(~usable[:, :, None], _IMPOSSIBLE)
        if not bool(torch.isfinite(cost).all()):
            raise FloatingPointError("predictions that are NaN or infinite")
        costs = cost.float().cpu().numpy()
        image, chosen, target = [], [], []
        for index, count in enumerate(targets.counts):
            if not count:
                continue
            columns, rows = linear_sum_assignment(costs[index, :, :count].T)
            image += [index] * len(rows)
            chosen += rows.tolist()
            target += columns.tolist()
        device = prediction.logits.device
        return Match(*(torch.tensor(values, dtype=torch.int64, device=device) for values in (image, chosen, target)))

    def _cost(self, prediction: Prediction, targets: Targets) -> Tensor:
        """[B, n, T]."""
        probability = prediction.logits.float().sigmoid()
        negative = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + 1e-8).log()
        positive = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + 1e-8).log()
        wanted = targets.labels[:, None].expand(-1, probability.shape[1], -1)
        boxes, truth = prediction.boxes.float()[:, :, None], targets.boxes[:, None]
        return (
            self.l1_weight * (boxes - truth).abs().sum(-1)
            + self.class_weight * (positive - negative).gather(2, wanted)
            - self.giou_weight * generalized_iou(boxes, truth)
        )
