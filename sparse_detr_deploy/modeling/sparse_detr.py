"""The detector: backbone, transformer and heads, with the state dict of the official code."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.modeling.backbones import build_backbone
from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.modeling.heads import MLP
from sparse_detr_deploy.modeling.output import DetectorOutput, Prediction
from sparse_detr_deploy.modeling.token_grid import TokenGrid, full_grid, padded_grid
from sparse_detr_deploy.modeling.transformer import Transformer
from sparse_detr_deploy.tokens import LevelShapes, check_keep_ratio, num_tokens


class SparseDETR(nn.Module):
    """A detector of the family: Deformable DETR, Efficient-DETR initialisation, Sparse DETR."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source: dict[str, Any] = {}
        size = config.hidden_dim
        self.transformer = Transformer(config)
        body = build_backbone(config)
        self.backbone = nn.ModuleList([nn.ModuleDict({"body": body})])
        channels = list(body.num_channels)
        projections = [_projection(width, size, kernel=1) for width in channels]
        for level in range(len(channels), config.num_feature_levels):
            projections.append(_projection(channels[-1] if level == len(channels) else size, size, kernel=3))
        self.input_proj = nn.ModuleList(projections)
        if not config.two_stage:
            self.query_embed = nn.Embedding(config.num_queries, 2 * size)
        self.class_embed, self.bbox_embed = _heads(config)
        self._share_heads()

    def _share_heads(self) -> None:
        """Register the heads where the official code does: its state dict names them two or three times.

        Order: decoder layers, then the first stage, then the encoder layers but the last.
        """
        config, decoder, encoder = self.config, self.transformer.decoder, self.transformer.encoder
        if config.two_stage:
            decoder.class_embed = self.class_embed
        if config.two_stage or config.refines_references:
            decoder.bbox_embed = self.bbox_embed
        if config.use_enc_aux_loss:
            encoder.class_embed = self.class_embed[-(config.enc_layers - 1) :]
            encoder.bbox_embed = self.bbox_embed[-(config.enc_layers - 1) :]

    def level_shapes(self, height: int, width: int) -> LevelShapes:
        """(H, W) of every level for a canvas of ``height`` × ``width`` pixels."""
        shapes = list(self.backbone[0]["body"].feature_shapes(height, width))  # type: ignore[index,operator]
        while len(shapes) < self.config.num_feature_levels:
            shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
        return tuple(shapes)

    def grid(self, height: int, width: int, image_sizes: Tensor | None = None) -> TokenGrid:
        """Geometry of the tokens on a canvas; with ``image_sizes`` ([B, 2] int64) of padded images."""
        shapes = self.level_shapes(height, width)
        if image_sizes is None:
            return full_grid(shapes, self.config.hidden_dim)
        return padded_grid(shapes, self.config.hidden_dim, (height, width), image_sizes)

    def forward(
        self,
        images: Tensor,
        image_sizes: Tensor | None = None,
        keep_ratio: float | Tensor | None = None,
        *,
        grid: TokenGrid | None = None,
        selected_tokens: Tensor | None = None,
        selected_proposals: Tensor | None = None,
        auxiliary: bool = False,
    ) -> DetectorOutput:
        """Detect.

        Args:
            images: [B, 3, H, W] float32, RGB, ImageNet-normalised, padding zero.
            image_sizes: [B, 2] int64, (h, w) of each image at the top left of the canvas; ``None``: all fill it.
            keep_ratio: share ρ of the tokens that the encoder refines, in (0, 1]; default: the trained one.
                An int64 tensor [1] or [B] gives the number of tokens instead. Sparse models only.
            grid: :meth:`grid` of these sizes, where it is at hand (an exporter keeps it as a constant).
            selected_tokens: [B, K] int64, refine these tokens instead of the most salient ones.
            selected_proposals: [B, Q] int64, make these tokens the queries instead of the best proposals.
            auxiliary: also return what the training losses need.

        Raises:
            InputError: wrong shapes or types, a keep ratio outside (0, 1] or on a dense model.
        """
        if grid is None:
            self._check(images, image_sizes)
            filled = image_sizes is None or bool((image_sizes == image_sizes.new_tensor(images.shape[2:])).all())
            grid = self.grid(images.shape[2], images.shape[3], None if filled else image_sizes).to(images.device)
        if keep_ratio is not None and not torch.compiler.is_exporting():
            keep_ratio = self._checked_keep(keep_ratio, images)
        level_shapes = self.level_shapes(images.shape[2], images.shape[3])
        transformer = self.transformer
        memory = self.tokens(images)
        position = transformer.embed(grid, level_shapes) if grid.embedding is None else grid.embedding

        scores = selected = None
        if self.config.is_sparse:
            scores = transformer.score_tokens(memory, position, grid)
            ratio = self.config.rho if keep_ratio is None else keep_ratio
            selected = transformer.select(scores, grid, ratio) if selected_tokens is None else selected_tokens
        encoder_auxiliary: list[Prediction] = []
        memory = transformer.encoder(
            memory, position, grid, level_shapes, selected, encoder_auxiliary if auxiliary else None
        )

        chosen = proposals = None
        if self.config.two_stage:
            class_head, box_head = self.class_embed[self.config.dec_layers], self.bbox_embed[self.config.dec_layers]
            features = transformer.proposal_features(memory, grid)
            chosen = selected_proposals
            if chosen is None:
                logits = transformer.proposal_logits(features, class_head)  # type: ignore[arg-type]
                chosen = logits.topk(self.config.num_queries, dim=1).indices
            queries = transformer.queries_from_proposals(memory, features, grid, chosen, box_head)
            if auxiliary:
                proposals = Prediction(class_head(features), (grid.proposals + box_head(features)).sigmoid())
        else:
            queries = transformer.queries_from_embedding(self.query_embed.weight, images.shape[0])
        decoder_auxiliary: list[Prediction] = []
        prediction = transformer.decoder(
            *queries,
            memory,
            grid,
            level_shapes,
            self.class_embed,
            self.bbox_embed,
            decoder_auxiliary if auxiliary else None,
        )
        return DetectorOutput(
            pred_logits=prediction.logits,
            pred_boxes=prediction.boxes,
            token_scores=scores,
            selected_tokens=selected,
            topk_proposals=chosen,
            decoder_auxiliary=decoder_auxiliary,
            encoder_auxiliary=encoder_auxiliary,
            proposals=proposals,
        )

    def tokens(self, images: Tensor) -> Tensor:
        """[B, N, C] tokens of all levels from the images."""
        features: Sequence[Tensor] = self.backbone[0]["body"](images)  # type: ignore[index,operator]
        projected = [project(feature) for project, feature in zip(self.input_proj, features, strict=False)]
        for level in range(len(features), self.config.num_feature_levels):
            projected.append(self.input_proj[level](features[-1] if level == len(features) else projected[-1]))
        return torch.cat([level.flatten(2).transpose(1, 2) for level in projected], dim=1)

    def _check(self, images: Tensor, image_sizes: Tensor | None) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(
                f"images are {images.dtype} {list(images.shape)}, but the network takes normalised floating point [B, 3, H, W]"
            )
        if image_sizes is not None:
            if image_sizes.shape != (images.shape[0], 2) or image_sizes.is_floating_point():
                raise InputError(
                    f"image_sizes are {image_sizes.dtype} {list(image_sizes.shape)}, but int64 [{images.shape[0]}, 2] (h, w) is needed"
                )
            limit = image_sizes.new_tensor(images.shape[2:])
            if bool((image_sizes < 1).any()) or bool((image_sizes > limit).any()):
                raise InputError(f"image_sizes {image_sizes.tolist()} do not fit the canvas {list(images.shape[2:])}")
        tokens = num_tokens(self.level_shapes(images.shape[2], images.shape[3]))
        if self.config.two_stage and tokens < self.config.num_queries:
            raise InputError(
                f"a canvas of {images.shape[2]}×{images.shape[3]} has {tokens} tokens, fewer than the {self.config.num_queries} queries "
                "that a two-stage model takes from them: use larger images"
            )

    def _checked_keep(self, keep_ratio: float | Tensor, images: Tensor) -> float | Tensor:
        """``keep_ratio`` as a float, or the tensor of counts that it is."""
        if not self.config.is_sparse:
            raise InputError("this model has a dense encoder: it takes no keep ratio")
        if not isinstance(keep_ratio, Tensor):
            return check_keep_ratio(keep_ratio)
        if keep_ratio.dtype != torch.int64 or list(keep_ratio.shape) not in ([1], [images.shape[0]]):
            raise InputError(
                f"keep_ratio is a tensor {keep_ratio.dtype} {list(keep_ratio.shape)}, which would be the number of tokens: give "
                f"int64 [1] or [{images.shape[0]}], or a share of them as a float"
            )
        tokens = num_tokens(self.level_shapes(images.shape[2], images.shape[3]))
        if bool((keep_ratio < 1).any()) or bool((keep_ratio > tokens).any()):
            raise InputError(
                f"keep_ratio asks for {keep_ratio.tolist()} of the {tokens} tokens of a canvas of "
                f"{images.shape[2]}×{images.shape[3]}: give counts of 1 to {tokens}"
            )
        return keep_ratio


def _projection(in_channels: int, hidden_dim: int, kernel: int) -> nn.Sequential:
    """1×1 projection of a backbone level, or the strided 3×3 one that makes a further level."""
    stride, padding = (1, 0) if kernel == 1 else (2, 1)
    return nn.Sequential(nn.Conv2d(in_channels, hidden_dim, kernel, stride, padding), nn.GroupNorm(32, hidden_dim))


def _heads(config: ModelConfig) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Class and box heads of all decoder layers, of the first stage and of the encoder's auxiliary losses."""
    count = config.dec_layers
    count += 1 if config.two_stage else 0
    count += config.enc_layers - 1 if config.use_enc_aux_loss else 0
    class_head = nn.Linear(config.hidden_dim, config.num_classes)
    box_head = MLP(config.hidden_dim, config.hidden_dim, 4, 3)
    with torch.no_grad():
        class_head.bias.fill_(-math.log(99.0))  # prior probability 0.01, for the focal loss
        for parameter in box_head.layers[-1].parameters():
            parameter.zero_()
    if config.with_box_refine or config.use_enc_aux_loss:
        return (
            nn.ModuleList(copy.deepcopy(class_head) for _ in range(count)),
            nn.ModuleList(copy.deepcopy(box_head) for _ in range(count)),
        )
    return nn.ModuleList([class_head] * count), nn.ModuleList([box_head] * count)


def build_model(config: ModelConfig) -> SparseDETR:
    """An untrained network of ``config``, in eval mode."""
    return SparseDETR(config).eval()
