"""The training objective of Sparse DETR: set losses of every head, and the scoring network's loss."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sparse_detr_deploy.modeling.output import DetectorOutput, Prediction
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.tokens import LevelShapes, num_keep
from sparse_detr_deploy.training.cross_attention_map import (
    Sampled,
    cross_attention_map,
    scoring_loss,
    selection_correlation,
    top_tokens,
)
from sparse_detr_deploy.training.losses import set_losses
from sparse_detr_deploy.training.matcher import HungarianMatcher
from sparse_detr_deploy.training.targets import Targets


@dataclasses.dataclass(frozen=True)
class Criterion:
    """Losses by the official names; :meth:`total` weighs and adds them (Sparse DETR, §3 and appendix).

    ``specific_head`` is the model's ``eff_specific_head``: without it the first stage only tells object or not, with
    class 0.
    """

    matcher: HungarianMatcher = dataclasses.field(default_factory=HungarianMatcher)
    class_weight: float = 2.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    scoring_weight: float = 1.0
    softmax_weight: float = 2.0
    specific_head: bool = True

    def __call__(self, output: DetectorOutput, targets: Targets, num_boxes: float | None = None) -> dict[str, Tensor]:
        """Losses of the last decoder layer (``loss_ce``, …), the others (``…_0``), the first stage (``…_enc``) and the
        encoder's auxiliary heads (``…_enc_0``). ``num_boxes`` defaults to the batch's objects, at least 1."""
        boxes = float(max(targets.total, 1)) if num_boxes is None else num_boxes
        losses = self.of(Prediction(output.pred_logits, output.pred_boxes), targets, boxes)
        for index, prediction in enumerate(output.decoder_auxiliary):
            losses |= self.of(prediction, targets, boxes, f"_{index}")
        if output.proposals is not None:
            first_stage = targets
            if not self.specific_head:
                first_stage = dataclasses.replace(targets, labels=torch.zeros_like(targets.labels))
            losses |= self.of(output.proposals, first_stage, boxes, "_enc")
        usable = None if output.selected_tokens is None else _first_occurrence(output.selected_tokens)
        for index, prediction in enumerate(output.encoder_auxiliary):
            losses |= self.of(prediction, targets, boxes, f"_enc_{index}", usable)
        return losses

    def of(
        self, prediction: Prediction, targets: Targets, boxes: float, suffix: str = "", usable: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Set losses of one ``prediction``, their names with ``suffix``; ``usable`` [B, n] bool leaves some out."""
        match = self.matcher(prediction, targets, usable)
        found = set_losses(prediction, targets, match, boxes, usable)
        return {f"{name}{suffix}": value for name, value in found.items()}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of ``losses``."""
        weights = {"loss_ce": self.class_weight, "loss_bbox": self.l1_weight, "loss_giou": self.giou_weight}
        weights |= {"loss_mask_prediction": self.scoring_weight, "loss_softmax": self.softmax_weight}

        def weight(name: str) -> float:
            return next(value for prefix, value in weights.items() if name.startswith(prefix))

        return torch.stack([weight(name) * value for name, value in losses.items()]).sum()


def saliency_losses(
    output: DetectorOutput, sampled: list[Sampled], grid: TokenGrid, level_shapes: LevelShapes, keep_ratio: float
) -> tuple[dict[str, Tensor], Tensor]:
    """``loss_mask_prediction`` of the scoring network, and Corr of this batch (a scalar, without gradient)."""
    assert output.token_scores is not None
    assert output.selected_tokens is not None
    attention = cross_attention_map(level_shapes, sampled)
    tokens = attention.shape[1]
    if grid.valid_tokens is None:
        counts = torch.tensor([num_keep(tokens, keep_ratio, tokens)], device=attention.device)
    else:
        counts = ((grid.valid_tokens.float() * keep_ratio).long() + 1).clamp(max=tokens)
    wanted = top_tokens(attention, counts, grid.is_image)
    correlation = selection_correlation(attention, output.selected_tokens, level_shapes)[0].mean()
    return {"loss_mask_prediction": scoring_loss(output.token_scores, wanted)}, correlation


def _first_occurrence(selected: Tensor) -> Tensor:
    """[B, K] bool: false where an index of the ascending ``selected`` repeats the one before it."""
    fresh = torch.ones_like(selected, dtype=torch.bool)
    fresh[:, 1:] = selected[:, 1:] != selected[:, :-1]
    return fresh
