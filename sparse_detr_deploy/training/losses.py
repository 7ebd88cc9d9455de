"""Losses of one set of predictions: focal, L1 and GIoU (Deformable DETR, §A.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.training.boxes import generalized_iou
from sparse_detr_deploy.training.matcher import FOCAL_ALPHA, FOCAL_GAMMA, Match
from sparse_detr_deploy.training.targets import Targets


def focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017, α = 0.25, γ = 2) of each logit against ``wanted`` (0 or 1), both [...]: [...]."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    probability = logits.sigmoid()
    missed = probability + wanted - 2 * probability * wanted  # 1 − p_t
    alpha = FOCAL_ALPHA * wanted + (1 - FOCAL_ALPHA) * (1 - wanted)
    return alpha * cross_entropy * missed**FOCAL_GAMMA


def set_losses(
    prediction: Prediction, targets: Targets, match: Match, num_boxes: float, counted: Tensor | None = None
) -> dict[str, Tensor]:
    """``loss_ce``, ``loss_bbox`` and ``loss_giou``, each a sum over the batch divided by ``num_boxes``.

    Args:
        prediction: logits [B, n, C], boxes [B, n, 4].
        targets: objects of the B images.
        match: which prediction answers for which object.
        num_boxes: objects of the batch (of all processes together), at least 1.
        counted: [B, n] bool, predictions whose class counts; default: all.
    """
    logits, boxes = prediction.logits.float(), prediction.boxes.float()
    wanted = torch.zeros_like(logits)
    wanted[match.image, match.prediction, targets.labels[match.image, match.target]] = 1
    classes = focal_loss(logits, wanted)
    if counted is not None:
        classes = classes * counted[:, :, None]
    found = boxes[match.image, match.prediction]
    truth = targets.boxes[match.image, match.target]
    return {
        "loss_ce": classes.sum() / num_boxes,
        "loss_bbox": (found - truth).abs().sum() / num_boxes,
        "loss_giou": (1 - generalized_iou(found, truth)).sum() / num_boxes,
    }
