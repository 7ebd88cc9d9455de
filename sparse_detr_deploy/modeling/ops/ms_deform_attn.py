"""Twin of the ONNX op ``sparse_detr::MSDeformAttn``: fused multi-scale deformable attention (Deformable DETR, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_detr_deploy.tokens import LevelShapes


def ms_deform_attn(
    value: Tensor,
    level_shapes: LevelShapes,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """Sample the value maps around reference points and sum with softmax weights.

    Takes the raw outputs of the linear layers; softmax, sampling locations, bilinear sampling (zeros outside,
    ``align_corners=False``) and the weighted sum are one op. A location on a level of (H, W) is
    ``reference · (W, H) + offset`` pixels for 2-d references and
    ``reference_xy + offset / P · reference_wh / 2`` in 0..1 for 4-d ones.

    Args:
        value: [B, N, M, D] projected tokens of all levels, M heads of D channels; padded tokens are zero already.
        level_shapes: (H, W) of the L levels, ΣHW = N.
        reference_points: [B | 1, Q, L | 1, 2 | 4]: (x, y) or (x, y, w, h) in 0..1 of the canvas; a dimension of one
            is the same for all images or levels.
        sampling_offsets: [B, Q, M, L, P, 2], (x, y).
        attention_logits: [B, Q, M, L·P].

    Returns:
        [B, Q, M·D] of ``value``'s dtype. Half-precision inputs are computed in float32; the reference points may be
        float32 beside them.
    """
    if torch.compiler.is_exporting():
        flat_shapes = [size for shape in level_shapes for size in shape]
        result: Tensor = torch.ops.sparse_detr.ms_deform_attn(
            value, flat_shapes, reference_points, sampling_offsets, attention_logits
        )
        return result
    return _twin(value, level_shapes, reference_points, sampling_offsets, attention_logits)


def sampling_locations(level_shapes: LevelShapes, reference_points: Tensor, sampling_offsets: Tensor) -> Tensor:
    """Where each sample lies, [B, Q, M, L, P, 2] as (x, y) in 0..1 of the canvas; arguments as in :func:`ms_deform_attn`."""
    references = reference_points[:, :, None, :, None, :]
    if reference_points.shape[-1] == 2:
        sizes = sampling_offsets.new_tensor([(width, height) for height, width in level_shapes])
        return references + sampling_offsets / sizes[:, None, :]
    points = sampling_offsets.shape[4]
    return references[..., :2] + sampling_offsets / points * references[..., 2:] * 0.5


def _twin(
    value: Tensor,
    level_shapes: LevelShapes,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    batch, _, heads, channels = value.shape
    _, queries, _, levels, points, _ = sampling_offsets.shape
    # coordinates in half would be off by up to a tenth of a pixel
    dtype = torch.promote_types(value.dtype, torch.float32)
    reference_points, sampling_offsets = reference_points.to(dtype), sampling_offsets.to(dtype)
    # [B·M, Q, L, P, 2] in −1..1, the convention of grid_sample
    locations = sampling_locations(level_shapes, reference_points, sampling_offsets)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    weights = attention_logits.to(dtype).softmax(-1).transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    maps = (
        value.to(dtype)
        .permute(0, 2, 3, 1)
        .flatten(0, 1)
        .split([height * width for height, width in level_shapes], dim=-1)
    )
    samples = [
        F.grid_sample(
            level_map.reshape(batch * heads, channels, height, width), grids[:, :, level], align_corners=False
        )
        for level, (level_map, (height, width)) in enumerate(zip(maps, level_shapes, strict=True))
    ]
    result = (torch.cat(samples, dim=-1) * weights).sum(-1)
    return result.view(batch, heads * channels, queries).transpose(1, 2).to(value.dtype)


@torch.library.custom_op("sparse_detr::ms_deform_attn", mutates_args=())
def _exported(
    value: Tensor,
    spatial_shapes: Sequence[int],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    shapes = tuple(zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True))
    return _twin(value, shapes, reference_points, sampling_offsets, attention_logits).contiguous()


@_exported.register_fake
def _(
    value: Tensor,
    spatial_shapes: Sequence[int],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    batch, queries, heads = sampling_offsets.shape[:3]
    return value.new_empty(batch, queries, heads * value.shape[3])
