"""Attention layers: multi-scale deformable attention and the decoder's self-attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_detr_deploy.modeling.ops import ms_deform_attn
from sparse_detr_deploy.tokens import LevelShapes


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention with its projections (Deformable DETR, §4.1).

    ``attend`` is the sampling itself; a trainer may set a faster form of it with gradients.
    """

    def __init__(self, hidden_dim: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.attend: Callable[[Tensor, LevelShapes, Tensor, Tensor, Tensor], Tensor] = ms_deform_attn
        self.sampling_offsets = nn.Linear(hidden_dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(hidden_dim, heads * levels * points)
        self.value_proj = nn.Linear(hidden_dim, hidden_dim)
        self.output_proj = nn.Linear(hidden_dim, hidden_dim)
        if not self.output_proj.weight.is_meta:  # no values there, and the arithmetic would import a compiler (1 s)
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with points that fan out from the reference, one direction a head, and with equal weights."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.points + 1)
        offsets = direction[:, None, None] * distance[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
            self.attention_weights.weight.zero_()
            self.attention_weights.bias.zero_()

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        level_shapes: LevelShapes,
        is_image: Tensor | None,
    ) -> Tensor:
        """Attend from ``query`` [B, Q, C] to ``memory`` [B, N, C]; the rest as in :func:`ops.ms_deform_attn`.

        ``is_image`` [B, N, 1] is 0 where ``memory`` is padding. Returns [B, Q, C].
        """
        batch, queries, _ = query.shape
        value = self.value_proj(memory)
        if is_image is not None:
            value = value * is_image
        attended = self.attend(
            value.view(batch, memory.shape[1], self.heads, -1),
            level_shapes,
            reference_points,
            self.sampling_offsets(query).view(batch, queries, self.heads, self.levels, self.points, 2),
            self.attention_weights(query).view(batch, queries, self.heads, self.levels * self.points),
        )
        result: Tensor = self.output_proj(attended)
        return result


class SelfAttention(nn.Module):
    """Multi-head attention of the object queries among themselves; parameters named as in ``nn.MultiheadAttention``."""

    def __init__(self, hidden_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden_dim, hidden_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_dim))
        self.out_proj = nn.Linear(hidden_dim, hidden_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query_and_key: Tensor, value: Tensor) -> Tensor:
        """[B, Q, C] twice to [B, Q, C]."""
        batch, queries, channels = value.shape
        size = channels // self.heads

        def project(features: Tensor, part: int) -> Tensor:
            rows = slice(part * channels, (part + 1) * channels)
            projected = F.linear(features, self.in_proj_weight[rows], self.in_proj_bias[rows])
            return projected.view(batch, queries, self.heads, size).transpose(1, 2)

        query, key = project(query_and_key, 0), project(query_and_key, 1)
        weights = (query * size**-0.5 @ key.transpose(-1, -2)).softmax(-1)
        attended = (weights @ project(value, 2)).transpose(1, 2).reshape(batch, queries, channels)
        result: Tensor = self.out_proj(attended)
        return result
