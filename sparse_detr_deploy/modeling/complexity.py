"""Multiply-adds of the family, counted as in the Sparse DETR paper, so that its published numbers come out.

The paper counts the original formulation with fvcore: convolutions, linear layers and matrix products (one multiply-add
is one), layer and group norms (5 per element), bilinear samples (4 per element); element-wise work is free. Auxiliary
heads of the encoder are left out. What this toolkit computes more cheaply (the box head on the chosen tokens only, the
scoring network without its concatenation) is counted as the original does it.
"""

from __future__ import annotations

import dataclasses
import itertools

from sparse_detr_deploy.modeling.backbones import thin_resnet
from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.tokens import LevelShapes, num_tokens

_NORM, _SAMPLE = 5, 4
_RESNET_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_SWIN_WIDTH, _SWIN_DEPTHS, _SWIN_PATCH, _SWIN_WINDOW = 96, (2, 2, 6, 2), 4, 7


@dataclasses.dataclass(frozen=True)
class Complexity:
    """Multiply-adds of one image: ``fixed`` plus ``per_kept_token`` for each token that a sparse encoder refines.

    A dense encoder is part of ``fixed``, and ``per_kept_token`` is 0.
    """

    fixed: int
    per_kept_token: int

    def gmacs(self, kept: int = 0) -> float:
        """10⁹ multiply-adds with ``kept`` refined tokens (1 GMAC = 2 GFLOPs in the other usual convention)."""
        return (self.fixed + self.per_kept_token * kept) / 1e9


def count(config: ModelConfig, height: int, width: int, level_shapes: LevelShapes) -> Complexity:
    """Multiply-adds of a network for one image of ``height`` × ``width`` pixels with tokens of ``level_shapes``."""
    if config.backbone == "thin-resnet18":
        backbone = _thin_resnet(height, width)
    else:
        backbone = _swin(height, width) if config.backbone.startswith("swin") else _resnet(config, height, width)
    tokens, size, queries = num_tokens(level_shapes), config.hidden_dim, config.num_queries
    fixed = backbone + _projections(config, level_shapes)
    encoder_layer = _attention(config, config.enc_n_points) + _feed_forward(config)
    fixed += config.enc_layers * tokens * _linear(size, size)  # values of every token
    per_kept_token = config.enc_layers * encoder_layer
    if not config.is_sparse:
        fixed, per_kept_token = fixed + per_kept_token * tokens, 0
    proposal_layer = _linear(size, size) + _NORM * size
    if config.is_sparse:
        half = size // 2
        scoring = _NORM * size + _linear(size, size, half, half // 2, 1)
        fixed += tokens * (proposal_layer + scoring)
    if config.two_stage:
        fixed += tokens * (proposal_layer + _linear(size, config.num_classes) + _box_head(size))
        position_size = size if config.eff_query_init else 2 * size
        fixed += queries * (_linear(2 * size, position_size) + _NORM * position_size)
    else:
        fixed += queries * _linear(size, 2)
    fixed += config.dec_layers * (queries * _decoder_query(config) + tokens * _linear(size, size))
    return Complexity(fixed, per_kept_token)


def _linear(*widths: int) -> int:
    """Linear layers one after another, for one token."""
    return sum(one * other for one, other in itertools.pairwise(widths))


def _box_head(size: int) -> int:
    return _linear(size, size, size, 4)


def _attention(config: ModelConfig, points: int) -> int:
    """Deformable attention of one query, without the values that it looks at, and the layer norm after it."""
    size, samples = config.hidden_dim, config.nheads * config.num_feature_levels * points
    sampled = config.num_feature_levels * points * size
    return _linear(size, 3 * samples) + _SAMPLE * sampled + _linear(size, size) + _NORM * size


def _feed_forward(config: ModelConfig) -> int:
    return _linear(config.hidden_dim, config.dim_feedforward, config.hidden_dim) + _NORM * config.hidden_dim


def _decoder_query(config: ModelConfig) -> int:
    """One decoder layer and its heads for one query."""
    size = config.hidden_dim
    self_attention = 4 * _linear(size, size) + 2 * config.num_queries * size + _NORM * size
    # a refining layer evaluates its box head twice in the original: for the references and for the output
    boxes = _box_head(size) * (2 if config.refines_references else 1)
    heads = _linear(size, config.num_classes) + boxes
    return self_attention + _attention(config, config.dec_n_points) + _feed_forward(config) + heads


def _projections(config: ModelConfig, level_shapes: LevelShapes) -> int:
    """From the backbone's maps to tokens: 1×1 convolutions, strided 3×3 ones for further levels, group norms."""
    widths = [192, 384, 768] if config.backbone.startswith("swin") else [512, 1024, 2048]
    if config.backbone == "thin-resnet18":
        widths = list(thin_resnet.WIDTHS[1:])
    if config.num_feature_levels == 1:
        widths = widths[-1:]
    total, size = 0, config.hidden_dim
    for level, (rows, columns) in enumerate(level_shapes):
        if level < len(widths):
            macs = _linear(widths[level], size)
        else:
            macs = 9 * _linear(widths[-1] if level == len(widths) else size, size)
        total += rows * columns * (macs + _NORM * size)
    return total


def _resnet(config: ModelConfig, height: int, width: int) -> int:
    """Convolutions only: the frozen batch norms are element-wise."""
    rows, columns = _halved(height), _halved(width)
    total = rows * columns * 49 * _linear(3, 64)
    rows, columns = _halved(rows), _halved(columns)  # max pooling
    in_width = 64
    for stage, blocks in enumerate(_RESNET_BLOCKS[config.backbone]):
        inner = 64 * 2**stage
        for block in range(blocks):
            total += rows * columns * _linear(in_width, inner)
            if block == 0 and stage > 0 and not (stage == 3 and config.dilation):
                rows, columns = _halved(rows), _halved(columns)
            total += rows * columns * (9 * _linear(inner, inner) + _linear(inner, 4 * inner))
            if block == 0:
                total += rows * columns * _linear(in_width, 4 * inner)
            in_width = 4 * inner
    return total


def _thin_resnet(height: int, width: int) -> int:
    rows, columns = _halved(height), _halved(width)
    before = thin_resnet.WIDTHS[0]
    total = rows * columns * 9 * _linear(3, before)
    for channels, blocks in zip(thin_resnet.WIDTHS, thin_resnet.BLOCKS, strict=True):
        rows, columns = _halved(rows), _halved(columns)
        convolutions = 9 * _linear(before, channels) + 9 * (2 * blocks - 1) * _linear(channels, channels)
        total += rows * columns * (convolutions + _linear(before, channels))  # the last: the first block's shortcut
        before = channels
    return total


def _swin(height: int, width: int) -> int:
    rows, columns = -(-height // _SWIN_PATCH), -(-width // _SWIN_PATCH)
    total = rows * columns * (_SWIN_PATCH**2 * _linear(3, _SWIN_WIDTH) + _NORM * _SWIN_WIDTH)
    for stage, depth in enumerate(_SWIN_DEPTHS):
        size, tokens, window = _SWIN_WIDTH * 2**stage, rows * columns, _SWIN_WINDOW**2
        padded = -(-rows // _SWIN_WINDOW) * -(-columns // _SWIN_WINDOW) * window
        attention = padded * (_linear(size, 3 * size) + 2 * window * size + _linear(size, size))
        total += depth * (attention + tokens * (2 * _NORM * size + _linear(size, 4 * size, size)))
        if stage > 0:
            total += tokens * _NORM * size  # the norm of the stage's output
        if stage < 3:
            rows, columns = _halved(rows), _halved(columns)
            total += rows * columns * (_NORM * 4 * size + _linear(4 * size, 2 * size))
    return total


def _halved(size: int) -> int:
    return (size + 1) // 2
