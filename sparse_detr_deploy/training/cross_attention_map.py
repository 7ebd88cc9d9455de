"""Decoder cross-attention map (DAM): how much the decoder looks at each encoder token (Sparse DETR, §3.3)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.modeling.attention import MSDeformAttn
from sparse_detr_deploy.modeling.ops.ms_deform_attn import sampling_locations
from sparse_detr_deploy.tokens import LevelShapes, num_tokens

Sampled = tuple[Tensor, Tensor]


@contextlib.contextmanager
def recorded_cross_attention(model: SparseDETR) -> Iterator[list[Sampled]]:
    """Collect, during the forward passes of the block, what each decoder layer samples.

    Gives a list that gets, for each layer in order, the locations [B, Q, M, L, P, 2] ((x, y) in 0..1 of the canvas)
    and the weights [B, Q, M, L, P] (sum 1 over L and P), without gradients.
    """
    record: list[Sampled] = []

    def note(module: MSDeformAttn, inputs: tuple[Any, ...]) -> None:
        query, reference_points, _, level_shapes, _ = inputs
        with torch.no_grad():
            shape = (*query.shape[:2], module.heads, module.levels, module.points)
            offsets = module.sampling_offsets(query).float().view(*shape, 2)
            weights = module.attention_weights(query).float().view(*shape[:3], -1).softmax(-1).view(shape)
            record.append((sampling_locations(level_shapes, reference_points, offsets), weights))

    layers: Any = model.transformer.decoder.layers
    handles = [layer.cross_attn.register_forward_pre_hook(note) for layer in layers]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def cross_attention_map(level_shapes: LevelShapes, sampled: list[Sampled]) -> Tensor:
    """Attention that each token gets, [B, N] float32: over all layers, heads, queries and points.

    Each sample is shared out bilinearly among the four tokens around it, as the original does it: its location times
    the level's size, without the half pixel that sampling itself takes off.

    Args:
        level_shapes: (H, W) of the levels.
        sampled: of :func:`recorded_cross_attention`.
    """
    batch = sampled[0][0].shape[0]
    total = torch.zeros(batch, num_tokens(level_shapes), device=sampled[0][0].device)
    for locations, weights in sampled:
        start = 0
        for level, (height, width) in enumerate(level_shapes):
            places = locations[:, :, :, level] * locations.new_tensor([width, height])
            low = places.floor()
            share = places - low
            x, y = low.long().unbind(-1)
            for right in (0, 1):
                for down in (0, 1):
                    across = share[..., 0] if right else 1 - share[..., 0]
                    along = share[..., 1] if down else 1 - share[..., 1]
                    column, row = x + right, y + down
                    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                    index = torch.where(inside, start + row * width + column, 0)
                    value = weights[:, :, :, level] * across * along * inside
                    total.scatter_add_(1, index.flatten(1), value.flatten(1))
            start += height * width
    return total


def top_tokens(attention: Tensor, counts: Tensor, is_image: Tensor | None = None) -> Tensor:
    """float32 [B, N]: 1 at the ``counts`` [B] (or [1]) tokens of each image that get the most attention, else 0.

    Padding, where ``is_image`` [B, N, 1] is 0, comes last.
    """
    if is_image is not None:
        attention = attention.masked_fill(is_image.squeeze(-1) == 0, -1.0)
    order = attention.sort(dim=1, descending=True, stable=True).indices
    ranks = torch.arange(attention.shape[1], device=attention.device).expand_as(order)
    return torch.zeros_like(attention).scatter_(1, order, (ranks < counts[:, None]).float())


def scoring_loss(scores: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of the scoring network's ``scores`` [B, N] against ``wanted`` [B, N]: its mean."""
    return F.binary_cross_entropy_with_logits(scores.float(), wanted)


def selection_correlation(attention: Tensor, selected: Tensor, level_shapes: LevelShapes) -> list[Tensor]:
    """Corr: share of the decoder's attention that falls on the ``selected`` tokens (Sparse DETR, §4.3).

    Args:
        attention: [B, N] of :func:`cross_attention_map`.
        selected: [B, K] int64 token indices; repeated ones count once.
        level_shapes: (H, W) of the levels.

    Returns:
        [B] for all tokens, then for each level alone; NaN where a level gets no attention.
    """
    chosen = torch.zeros_like(attention).scatter_(1, selected, 1.0)
    sizes = [height * width for height, width in level_shapes]
    hit = (attention * chosen).split(sizes, dim=1)
    total = attention.split(sizes, dim=1)
    overall = (attention * chosen).sum(1) / attention.sum(1)
    return [overall, *(one.sum(1) / other.sum(1) for one, other in zip(hit, total, strict=True))]
