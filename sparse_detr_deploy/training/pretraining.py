"""Pretraining: backbone and first stage as a plain dense detector, without encoder and decoder.

A set loss gives one token an object to learn from, this gives it to all tokens in the object's middle: a cheap start
for a detector that is trained from scratch. The weights are the detector's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.tokens import LevelShapes
from sparse_detr_deploy.training.losses import set_losses
from sparse_detr_deploy.training.matcher import Match
from sparse_detr_deploy.training.targets import Targets

_MIDDLE = 0.3  # half the side of an object's middle, as a share of its size
_REACH = 0.75  # at least this many tokens to each side
_TOKENS_ACROSS = 2.0  # an object goes to the level on which it is about this many tokens wide


def dense_prediction(model: SparseDETR, images: Tensor, grid: TokenGrid) -> Prediction:
    """The first stage on the backbone's tokens: logits [B, N, C] and boxes [B, N, 4]."""
    config, transformer = model.config, model.transformer
    features = transformer.proposal_features(model.tokens(images), grid)
    logits = model.class_embed[config.dec_layers](features)
    boxes = (grid.proposals + model.bbox_embed[config.dec_layers](features)).sigmoid()
    return Prediction(logits, boxes)


def dense_losses(prediction: Prediction, targets: Targets, level_shapes: LevelShapes) -> dict[str, Tensor]:
    """Focal, L1 and GIoU losses with every token in the middle of an object answering for it, and ``loss_softmax``.

    That is the cross-entropy of these tokens' classes against each other, in addition to the focal loss, which looks at
    each class alone. What it gains has not been measured apart.
    """
    match = middle_tokens(targets, level_shapes)
    answers = float(max(len(match.image), 1))
    logits = prediction.logits[match.image, match.prediction]
    labels = targets.labels[match.image, match.target]
    softmax = F.cross_entropy(logits, labels, reduction="sum") / answers
    return set_losses(prediction, targets, match, answers) | {"loss_softmax": softmax}


def middle_tokens(targets: Targets, level_shapes: LevelShapes) -> Match:
    """Which tokens answer for which object: those in its middle, on the level that fits its size; the smaller object
    takes a token that two could have."""
    device = targets.boxes.device
    centres, cells, levels = [], [], []
    for level, (height, width) in enumerate(level_shapes):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres.append(torch.stack([(x + 0.5) / width, (y + 0.5) / height], dim=-1).view(-1, 2))
        cells.append(torch.tensor([1 / width, 1 / height]).expand(height * width, 2))
        levels.append(torch.full((height * width,), level))
    centre, cell, token_level = (torch.cat(part).to(device) for part in (centres, cells, levels))

    middle, size = targets.boxes[..., :2], targets.boxes[..., 2:]
    first_cell = 1 / max(level_shapes[0])
    wanted = torch.log2(size.amax(-1) / (first_cell * _TOKENS_ACROSS)).round().clamp(0, len(level_shapes) - 1)
    distance = (centre[None, :, None] - middle[:, None]).abs()  # [B, N, T, 2]
    reach = torch.maximum(_MIDDLE * size[:, None], _REACH * cell[None, :, None])
    inside = (distance < reach).all(-1) & (token_level[None, :, None] == wanted[:, None])
    real = torch.arange(size.shape[1], device=device) < torch.tensor(targets.counts, device=device)[:, None]
    inside &= real[:, None]
    area = torch.where(inside, size.prod(-1)[:, None], torch.inf)
    smallest, target = area.min(-1)
    image, token = torch.nonzero(smallest.isfinite(), as_tuple=True)
    return Match(image, token, target[image, token])
