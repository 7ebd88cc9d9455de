"""The decoder: object queries attend to each other and to the encoder's memory (Deformable DETR, §4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_detr_deploy.modeling.attention import MSDeformAttn, SelfAttention
from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.modeling.heads import inverse_sigmoid
from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.tokens import LevelShapes


class DecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention and a feed-forward network, each with residual and layer norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_dim
        self.cross_attn = MSDeformAttn(size, config.num_feature_levels, config.nheads, config.dec_n_points)
        self.norm1 = nn.LayerNorm(size)
        self.self_attn = SelfAttention(size, config.nheads)
        self.norm2 = nn.LayerNorm(size)
        self.linear1 = nn.Linear(size, config.dim_feedforward)
        self.linear2 = nn.Linear(config.dim_feedforward, size)
        self.norm3 = nn.LayerNorm(size)

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        level_shapes: LevelShapes,
        is_image: Tensor | None,
    ) -> Tensor:
        """Refine ``queries`` [B, Q, C]; returns [B, Q, C]."""
        queries = self.norm2(queries + self.self_attn(queries + position, queries))
        attended = self.cross_attn(queries + position, reference_points, memory, level_shapes, is_image)
        queries = self.norm1(queries + attended)
        result: Tensor = self.norm3(queries + self.linear2(F.relu(self.linear1(queries))))
        return result


class Decoder(nn.Module):
    """The layers; ``class_embed`` and ``bbox_embed`` alias the detector's heads in two-stage checkpoints."""

    class_embed: nn.ModuleList | None
    bbox_embed: nn.ModuleList | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.dec_layers))
        self.refines_references = config.refines_references
        self.class_embed = None
        self.bbox_embed = None

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        grid: TokenGrid,
        level_shapes: LevelShapes,
        class_heads: nn.ModuleList,
        box_heads: nn.ModuleList,
        auxiliary: list[Prediction] | None = None,
    ) -> Prediction:
        """Decode.

        Args:
            queries: [B, Q, C] content of the object queries.
            position: [B, Q, C] their position embedding.
            reference_points: [B, Q, 2 | 4] in 0..1 of the image.
            memory: [B, N, C].
            grid: geometry of the tokens.
            level_shapes: (H, W) of the levels.
            class_heads: one a layer.
            box_heads: one a layer.
            auxiliary: where to add the predictions of every layer but the last; ``None`` leaves them out.

        Returns:
            Prediction of the last layer.
        """
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            scale = grid.valid_ratios
            if reference_points.shape[-1] == 4:
                scale = torch.cat([scale, scale], dim=-1)
            on_canvas = reference_points[:, :, None] * scale[:, None]
            queries = layer(queries, position, on_canvas, memory, level_shapes, grid.is_image)
            if index < last and auxiliary is None and not self.refines_references:
                continue
            boxes = _move(reference_points, box_heads[index](queries))
            if index == last:
                break
            if auxiliary is not None:
                auxiliary.append(Prediction(class_heads[index](queries), boxes))
            if self.refines_references:
                reference_points = boxes.detach()
        return Prediction(class_heads[last](queries), boxes)


def _move(reference_points: Tensor, offsets: Tensor) -> Tensor:
    """Boxes [B, Q, 4] in 0..1 from reference points [B, Q, 2 | 4] and offsets [B, Q, 4] in logits."""
    start = inverse_sigmoid(reference_points)
    if reference_points.shape[-1] == 2:
        start = F.pad(start, (0, 2))
    return (start + offsets).sigmoid()
