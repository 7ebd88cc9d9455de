"""Objectness score (OS): the other way to choose the encoder's tokens (Sparse DETR, §3.3).

A detection head on the backbone's tokens, learnt with the set losses; a token's score is its best class. It knows what
looks like an object, the scoring network knows what the decoder will look at.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparse_detr_deploy.modeling import ModelConfig, SparseDETR
from sparse_detr_deploy.modeling.heads import MLP
from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.modeling.token_grid import TokenGrid


class ObjectnessHead(nn.Module):
    """Takes the place of the scoring network: [B, N, C] tokens to [B, N] best class logits.

    ``prediction`` holds what the last call predicted: class logits and box offsets, before the grid's proposals.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_dim
        self.class_head = nn.Linear(size, config.num_classes)
        self.box_head = MLP(size, size, 4, 3)
        with torch.no_grad():
            self.class_head.bias.fill_(-math.log(99.0))
            for parameter in self.box_head.layers[-1].parameters():
                parameter.zero_()
        self._last: tuple[Tensor, Tensor] | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the tokens."""
        logits = self.class_head(tokens)
        self._last = (logits, self.box_head(tokens)) if self.training else None
        best: Tensor = logits.amax(-1)
        return best

    def prediction(self, grid: TokenGrid) -> Prediction:
        """What the last call in training mode predicted for every token of ``grid``."""
        assert self._last is not None
        logits, offsets = self._last
        return Prediction(logits, (grid.proposals + offsets).sigmoid())


def select_by_objectness(model: SparseDETR) -> SparseDETR:
    """Put an :class:`ObjectnessHead` in place of the scoring network. The state dict is no official one then."""
    model.transformer.enc_mask_predictor = ObjectnessHead(model.config)  # type: ignore[assignment]
    return model
