"""Everything about the tokens that depends on their place alone: positions, reference points, proposals, padding.

With images that fill the canvas all of it is constant, and an exported graph holds it as such.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.tokens import LevelShapes, nearest_index

# Logit of a proposal that is no object: its sigmoid is exactly 1 in float32 and half. The original uses +inf,
# which half-precision graphs turn into NaN.
_INVALID_LOGIT = 1e4
_TEMPERATURE = 10000.0


@dataclasses.dataclass(frozen=True)
class TokenGrid:
    """Geometry of N tokens on L levels; G is the batch size, or 1 when all images fill the canvas.

    Attributes:
        position: [G, N, C] sine position embedding (without the level embedding), float32.
        reference_points: [G, N, L | 1, 2] centre of each token, (x, y) in 0..1 of the canvas, per level.
        proposals: [G, N, 4] logits of the first-stage boxes (cx, cy, w, h); very large where no box is proposed.
        is_proposal: [G, N, 1] float32, 1 where a box is proposed and 0 at the rim and in the padding.
        valid_ratios: [G, L | 1, 2] share (w, h) of the canvas that is image, per level.
        is_image: [B, N, 1] float32, 0 for padding; ``None`` when all images fill the canvas.
        valid_tokens: [B] int64, tokens that are image; ``None`` when all are.
        embedding: [G, N, C] ``position`` plus the level embedding, where it is computed beforehand.
    """

    position: Tensor
    reference_points: Tensor
    proposals: Tensor
    is_proposal: Tensor
    valid_ratios: Tensor
    is_image: Tensor | None = None
    valid_tokens: Tensor | None = None
    embedding: Tensor | None = None

    def to(self, device: torch.device) -> TokenGrid:
        """The same grid on ``device``."""
        moved: dict[str, Any] = {
            field.name: value.to(device) if (value := getattr(self, field.name)) is not None else None
            for field in dataclasses.fields(self)
        }
        return TokenGrid(**moved)


def full_grid(level_shapes: LevelShapes, hidden_dim: int) -> TokenGrid:
    """The grid of images that fill the canvas; every tensor has a leading dimension of one."""
    rows = [torch.tensor([[float(height)]]) for height, _ in level_shapes]
    columns = [torch.tensor([[float(width)]]) for _, width in level_shapes]
    parts = [_level(level, shape, rows[level], columns[level], hidden_dim) for level, shape in enumerate(level_shapes)]
    position, centres, proposals, is_proposal = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return TokenGrid(position, centres[:, :, None], proposals, is_proposal, torch.ones(1, 1, 2))


def padded_grid(level_shapes: LevelShapes, hidden_dim: int, canvas: tuple[int, int], image_sizes: Tensor) -> TokenGrid:
    """The grid of images of ``image_sizes`` ([B, 2] int64, h and w) at the top left of ``canvas`` (h, w)."""
    parts, ratios, masks = [], [], []
    for level, (height, width) in enumerate(level_shapes):
        row_is_image = _is_image(height, canvas[0], image_sizes[:, :1])
        column_is_image = _is_image(width, canvas[1], image_sizes[:, 1:])
        rows, columns = row_is_image.sum(1, keepdim=True), column_is_image.sum(1, keepdim=True)
        parts.append(_level(level, (height, width), rows, columns, hidden_dim))
        ratios.append(torch.cat([columns / width, rows / height], dim=1))
        masks.append((row_is_image[:, :, None] * column_is_image[:, None, :]).flatten(1))
    position, centres, proposals, is_proposal = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    valid_ratios, is_image = torch.stack(ratios, dim=1), torch.cat(masks, dim=1)[:, :, None]
    return TokenGrid(
        position=position,
        reference_points=centres[:, :, None] * valid_ratios[:, None],
        proposals=torch.where(is_image > 0, proposals, _INVALID_LOGIT),
        is_proposal=is_proposal * is_image,
        valid_ratios=valid_ratios,
        is_image=is_image,
        valid_tokens=is_image.sum((1, 2)).long(),
    )


def _is_image(size: int, canvas_size: int, image_size: Tensor) -> Tensor:
    """float32 [B, size]: 1 where a position of the level shows image, as nearest-neighbour resizing of the mask says."""
    source = torch.from_numpy(nearest_index(size, canvas_size)).to(image_size.device)
    return (source < image_size).float()


def _level(
    level: int, shape: tuple[int, int], rows: Tensor, columns: Tensor, hidden_dim: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Position, centres, proposals and is_proposal of one level with ``rows`` × ``columns`` ([G, 1]) of image."""
    height, width = shape
    y = torch.arange(height, dtype=torch.float32, device=rows.device)[None] + 0.5
    x = torch.arange(width, dtype=torch.float32, device=rows.device)[None] + 0.5
    grid = (rows.shape[0], height, width)
    embedding_y = sine_embedding(y / (rows + 1e-6), hidden_dim // 2)[:, :, None].expand(*grid, -1)
    embedding_x = sine_embedding(x / (columns + 1e-6), hidden_dim // 2)[:, None].expand(*grid, -1)
    position = torch.cat([embedding_y, embedding_x], dim=-1).flatten(1, 2)

    centres_x = (x / columns)[:, None].expand(grid)
    centres_y = (y / rows)[:, :, None].expand(grid)
    centres = torch.stack([centres_x, centres_y], dim=-1).flatten(1, 2)
    sizes = torch.full_like(centres, 0.05 * 2.0**level)
    boxes = torch.cat([centres, sizes], dim=-1)
    inside = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
    safe = boxes.clamp(0.01, 0.99)
    proposals = torch.where(inside, torch.log(safe / (1 - safe)), _INVALID_LOGIT)
    return position, centres, proposals, inside.float()


def sine_embedding(positions: Tensor, features: int) -> Tensor:
    """Sine embedding [..., features] of ``positions`` [...] in 0..1: sine and cosine alternate (DETR, appendix A.4)."""
    pair = torch.arange(features // 2, dtype=torch.float32, device=positions.device)
    frequencies = _TEMPERATURE ** (2 * pair / features)
    angles = positions[..., None] * (2 * math.pi) / frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
