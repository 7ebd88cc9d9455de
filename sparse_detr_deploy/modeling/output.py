"""What the network returns."""

from __future__ import annotations

import dataclasses

from torch import Tensor


@dataclasses.dataclass
class Prediction:
    """Class logits [B, n, classes] and boxes [B, n, 4] (cx, cy, w, h in 0..1 of the image), both floating point."""

    logits: Tensor
    boxes: Tensor


@dataclasses.dataclass
class DetectorOutput:
    """Result of :class:`~sparse_detr_deploy.modeling.sparse_detr.SparseDETR`.

    Attributes:
        pred_logits: [B, Q, C] class logits of the last decoder layer.
        pred_boxes: [B, Q, 4] boxes (cx, cy, w, h) in 0..1 of the image, without the padding.
        token_scores: [B, N] saliency of every token, padding filled with the minimum (sparse models only).
        selected_tokens: [B, K] int64, ascending, the tokens that the encoder refined (sparse models only).
        topk_proposals: [B, Q] int64, the tokens that became object queries (two-stage models only).
        decoder_auxiliary: predictions of the decoder layers before the last (``auxiliary=True`` only).
        encoder_auxiliary: predictions of the encoder layers before the last on the selected tokens
            (``auxiliary=True`` and ``use_enc_aux_loss`` only).
        proposals: predictions of the first stage on all tokens (``auxiliary=True`` and ``two_stage`` only).
    """

    pred_logits: Tensor
    pred_boxes: Tensor
    token_scores: Tensor | None = None
    selected_tokens: Tensor | None = None
    topk_proposals: Tensor | None = None
    decoder_auxiliary: list[Prediction] = dataclasses.field(default_factory=list)
    encoder_auxiliary: list[Prediction] = dataclasses.field(default_factory=list)
    proposals: Prediction | None = None
