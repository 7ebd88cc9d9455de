"""Encoder, decoder and what lies between: token selection before, query initialisation after the encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.modeling.decoder import Decoder
from sparse_detr_deploy.modeling.encoder import Encoder, gather_grid, gather_rows, row_indices
from sparse_detr_deploy.modeling.ops import select_tokens
from sparse_detr_deploy.modeling.ops.select_tokens import DATA_DEPENDENT
from sparse_detr_deploy.modeling.saliency import ScoringNetwork
from sparse_detr_deploy.modeling.token_grid import TokenGrid, sine_embedding
from sparse_detr_deploy.tokens import LevelShapes, num_keep


class Transformer(nn.Module):
    """Parameters and steps of the transformer; :class:`SparseDETR` puts the steps in order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_dim
        self.config = config
        self.level_embed = nn.Parameter(torch.randn(config.num_feature_levels, size))
        if config.is_sparse:
            self.enc_mask_predictor = ScoringNetwork(size)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        if config.two_stage:
            position_size = size if config.eff_query_init else 2 * size
            self.enc_output = nn.Linear(size, size)
            self.enc_output_norm = nn.LayerNorm(size)
            self.pos_trans = nn.Linear(2 * size, position_size)
            self.pos_trans_norm = nn.LayerNorm(position_size)
        else:
            self.reference_points = nn.Linear(size, 2)

    def embed(self, grid: TokenGrid, level_shapes: LevelShapes) -> Tensor:
        """[G, N, C] position embedding plus the embedding of the token's level."""
        levels = [
            embedding.expand(height * width, -1)
            for embedding, (height, width) in zip(self.level_embed, level_shapes, strict=True)
        ]
        return grid.position + torch.cat(levels)

    def proposal_features(self, memory: Tensor, grid: TokenGrid) -> Tensor:
        """[B, N, C] features for scoring and proposing; tokens that propose nothing are zeroed first."""
        result: Tensor = self.enc_output_norm(self.enc_output(memory * grid.is_proposal))
        return result

    def score_tokens(self, memory: Tensor, position: Tensor, grid: TokenGrid) -> Tensor:
        """[B, N] saliency of the backbone tokens; padding gets the minimum."""
        scores: Tensor = self.enc_mask_predictor(self.proposal_features(memory + position, grid))
        if grid.is_image is not None:
            scores = torch.where(grid.is_image.squeeze(-1) > 0, scores, scores.min())
        return scores

    def select(self, scores: Tensor, grid: TokenGrid, keep_ratio: float | Tensor) -> Tensor:
        """[B, K] int64 indices of the most salient tokens. ``keep_ratio`` as an int64 tensor is the count itself."""
        if isinstance(keep_ratio, Tensor):
            return select_tokens(scores, keep_ratio)
        tokens = scores.shape[1]
        if grid.valid_tokens is None:
            count = num_keep(tokens, keep_ratio, tokens)
            return select_tokens(scores, torch.tensor([count], device=scores.device), count)
        # the product in float32 and cut off, as num_keep does
        counts = (grid.valid_tokens.float() * keep_ratio).long() + 1
        return select_tokens(scores, counts.clamp(max=tokens), DATA_DEPENDENT)

    def proposal_logits(self, features: Tensor, class_head: nn.Linear) -> Tensor:
        """[B, N] how much each token looks like an object: best class, or the first one used as 'object or not'."""
        if self.config.eff_specific_head:
            logits: Tensor = class_head(features)
            return logits.amax(-1)
        return (features @ class_head.weight[:1].t() + class_head.bias[:1]).squeeze(-1)

    def queries_from_proposals(
        self, memory: Tensor, features: Tensor, grid: TokenGrid, chosen: Tensor, box_head: nn.Module
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Content [B, Q, C], position [B, Q, C] and reference boxes [B, Q, 4] of the queries at tokens ``chosen`` [B, Q]."""
        rows = row_indices(chosen, memory.shape[1])
        logits = gather_grid(grid.proposals, rows, chosen) + box_head(gather_rows(features, rows, chosen))
        boxes = logits.detach().sigmoid()
        embedding = sine_embedding(boxes, self.config.hidden_dim // 2).flatten(2)
        position: Tensor = self.pos_trans_norm(self.pos_trans(embedding))
        if self.config.eff_query_init:
            return gather_rows(memory, rows, chosen), position, boxes
        position, content = position.chunk(2, dim=-1)
        return content, position, boxes

    def queries_from_embedding(self, embedding: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Content, position [B, Q, C] and reference points [B, Q, 2] from the learnt ``embedding`` [Q, 2·C]."""
        position, content = embedding.chunk(2, dim=-1)
        references = self.reference_points(position).sigmoid()
        content, position, references = (part.expand(batch, -1, -1) for part in (content, position, references))
        return content, position, references
