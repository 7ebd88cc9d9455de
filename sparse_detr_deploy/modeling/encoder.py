"""The encoder: deformable self-attention over all tokens, or over the salient ones only (Sparse DETR, §3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_detr_deploy.modeling.attention import MSDeformAttn
from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.modeling.heads import MLP
from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.tokens import LevelShapes


class EncoderLayer(nn.Module):
    """Deformable attention and a feed-forward network, each with residual and layer norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_dim
        self.self_attn = MSDeformAttn(size, config.num_feature_levels, config.nheads, config.enc_n_points)
        self.norm1 = nn.LayerNorm(size)
        self.linear1 = nn.Linear(size, config.dim_feedforward)
        self.linear2 = nn.Linear(config.dim_feedforward, size)
        self.norm2 = nn.LayerNorm(size)

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        level_shapes: LevelShapes,
        is_image: Tensor | None,
    ) -> Tensor:
        """Refine ``tokens`` [B, K, C] by looking at ``memory`` [B, N, C]; returns [B, K, C]."""
        attended = self.self_attn(tokens + position, reference_points, memory, level_shapes, is_image)
        tokens = self.norm1(tokens + attended)
        result: Tensor = self.norm2(tokens + self.linear2(F.relu(self.linear1(tokens))))
        return result


class Encoder(nn.Module):
    """The layers; ``class_embed`` and ``bbox_embed`` are the auxiliary heads where the checkpoint has them."""

    class_embed: nn.ModuleList | None
    bbox_embed: nn.ModuleList | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.enc_layers))
        self.class_embed = None
        self.bbox_embed = None

    def forward(
        self,
        memory: Tensor,
        position: Tensor,
        grid: TokenGrid,
        level_shapes: LevelShapes,
        selected: Tensor | None = None,
        auxiliary: list[Prediction] | None = None,
    ) -> Tensor:
        """Refine the tokens.

        Args:
            memory: [B, N, C] projected backbone features.
            position: [G, N, C] position and level embedding.
            grid: geometry of the tokens.
            level_shapes: (H, W) of the levels.
            selected: [B, K] int64 tokens to refine, ``None`` for all.
            auxiliary: where to add the auxiliary predictions of every layer but the last; ``None`` leaves them out.

        Returns:
            [B, N, C]; tokens that are not selected are as they were.
        """
        references, proposals = grid.reference_points, grid.proposals
        tokens = memory
        if selected is not None:
            rows = row_indices(selected, memory.shape[1])
            tokens = gather_rows(memory, rows, selected)
            position, references, proposals = (
                gather_grid(values, rows, selected) for values in (position, references, proposals)
            )
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens, position, references, memory, level_shapes, grid.is_image)
            memory = tokens if selected is None else scatter_rows(memory, rows, tokens)
            if auxiliary is not None and self.class_embed is not None and index < len(self.layers) - 1:
                box_head = self._box_head(index)
                auxiliary.append(Prediction(self.class_embed[index](tokens), (proposals + box_head(tokens)).sigmoid()))
        return memory

    def _box_head(self, index: int) -> MLP:
        assert self.bbox_embed is not None
        head = self.bbox_embed[index]
        assert isinstance(head, MLP)
        return head


def row_indices(indices: Tensor, tokens: int) -> Tensor:
    """Rows [B·K] of the flattened [B·N, …] that ``indices`` [B, K] of each image point at."""
    batch = indices.shape[0]
    if isinstance(batch, int) and batch == 1:
        return indices.reshape(-1)
    first = torch.arange(batch, device=indices.device) * tokens
    return (indices + first[:, None]).reshape(-1)


def gather_rows(values: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    """[B, N, …] at ``rows`` (from :func:`row_indices` of ``indices`` [B, K]): [B, K, …]. Copies whole rows."""
    chosen: Tensor = values.flatten(0, 1).index_select(0, rows).unflatten(0, indices.shape)  # type: ignore[no-untyped-call]
    return chosen


def gather_grid(values: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    """As :func:`gather_rows` for grid values, which have one entry for all images when none is padded."""
    if isinstance(values.shape[0], int) and values.shape[0] == 1:
        chosen: Tensor = values[0].index_select(0, indices.reshape(-1)).unflatten(0, indices.shape)  # type: ignore[no-untyped-call]
        return chosen
    return gather_rows(values, rows, indices)


def scatter_rows(values: Tensor, rows: Tensor, updates: Tensor) -> Tensor:
    """[B, N, C] with ``rows`` of the flattened tokens replaced by ``updates`` [B, K, C]."""
    return values.flatten(0, 1).index_put((rows,), updates.flatten(0, 1)).view_as(values)
