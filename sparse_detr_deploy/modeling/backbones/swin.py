"""Swin Transformer (Liu et al. 2021), tiny, as the official detection code has it: any input size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.tokens import LevelShapes

_WIDTH, _DEPTHS, _HEADS, _WINDOW, _PATCH = 96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 4
_MASKED = -100.0


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learnt bias for every relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * _WINDOW - 1) ** 2, heads))
        place = torch.stack(torch.meshgrid(torch.arange(_WINDOW), torch.arange(_WINDOW), indexing="ij")).flatten(1)
        distance = place[:, :, None] - place[:, None, :] + _WINDOW - 1
        self.register_buffer("relative_position_index", distance[0] * (2 * _WINDOW - 1) + distance[1])
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """``windows`` [B, nW, 49, C]; ``mask`` [nW, 1, 49, 49] is added to the attention logits. Same shape out."""
        _, count, tokens, width = windows.shape
        qkv = self.qkv(windows.flatten(0, 1)).view(-1, count, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(tokens, tokens, self.heads).permute(2, 0, 1)
        if mask is not None:
            bias = bias + mask
        logits = (query * (width // self.heads) ** -0.5) @ key.transpose(-1, -2) + bias
        attended = (logits.softmax(-1) @ value).transpose(2, 3).reshape(-1, tokens, width)
        result: Tensor = self.proj(attended)
        return result.view(-1, count, tokens, width)


class MLP(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        result: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return result


class SwinBlock(nn.Module):
    """Window attention (shifted in every other block) and an MLP, each after a layer norm and with residual."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, H, W, C] to the same shape."""
        _, height, width, channels = features.shape
        rows, columns = -(-height // _WINDOW), -(-width // _WINDOW)
        padding = (0, 0, 0, columns * _WINDOW - width, 0, rows * _WINDOW - height)
        padded = F.pad(self.norm1(features), padding) if any(padding) else self.norm1(features)
        if self.shift:
            padded = _roll(padded, self.shift)
        windows = padded.view(-1, rows, _WINDOW, columns, _WINDOW, channels).transpose(2, 3)
        windows = windows.reshape(-1, rows * columns, _WINDOW * _WINDOW, channels)
        mask = shift_mask(rows, columns, self.shift).to(features) if self.shift else None
        attended = self.attn(windows, mask).view(-1, rows, columns, _WINDOW, _WINDOW, channels).transpose(2, 3)
        attended = attended.reshape(-1, rows * _WINDOW, columns * _WINDOW, channels)
        if self.shift:
            attended = _roll(attended, -self.shift)
        features = features + attended[:, :height, :width]
        result: Tensor = features + self.mlp(self.norm2(features))
        return result


def _roll(features: Tensor, shift: int) -> Tensor:
    """``torch.roll`` by ``-shift`` along rows and columns, as slices: exporters have no roll."""
    features = torch.cat([features[:, shift:], features[:, :shift]], dim=1)
    return torch.cat([features[:, :, shift:], features[:, :, :shift]], dim=2)


def shift_mask(rows: int, columns: int, shift: int) -> Tensor:
    """[nW, 1, 49, 49] float32: −100 between tokens that only the cyclic shift brings into one window."""

    def region(windows: int) -> np.ndarray:
        size = windows * _WINDOW
        index = np.arange(size)
        return (index >= size - _WINDOW).astype(np.int64) + (index >= size - shift)

    regions = region(rows)[:, None] * 3 + region(columns)[None]
    tokens = regions.reshape(rows, _WINDOW, columns, _WINDOW).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    apart = tokens[:, :, None] != tokens[:, None, :]
    return torch.from_numpy(np.where(apart, _MASKED, 0.0).astype(np.float32)[:, None])


class PatchMerging(nn.Module):
    """Halves the map: four neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, H, W, C] to [B, ⌈H/2⌉, ⌈W/2⌉, 2·C]."""
        _, height, width, _ = features.shape
        if height % 2 or width % 2:
            features = F.pad(features, (0, 0, 0, width % 2, 0, height % 2))
        quarters = [features[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        result: Tensor = self.reduction(self.norm(torch.cat(quarters, dim=-1)))
        return result


class Stage(nn.Module):
    """Blocks of one resolution and, but for the last stage, the merging that follows."""

    def __init__(self, width: int, depth: int, heads: int, downsample: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(width, heads, _WINDOW // 2 * (index % 2)) for index in range(depth))
        self.downsample = PatchMerging(width) if downsample else None


class PatchEmbed(nn.Module):
    """4×4 patches to tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, _WIDTH, _PATCH, _PATCH)
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, ⌈H/4⌉, ⌈W/4⌉, C]."""
        height, width = images.shape[2:]
        if height % _PATCH or width % _PATCH:
            images = F.pad(images, (0, -width % _PATCH, 0, -height % _PATCH))
        result: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return result


class SwinTransformer(nn.Module):
    """Swin-T: the last three stages (the last one alone for one feature level), each with a layer norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.outputs = (1, 2, 3) if config.num_feature_levels > 1 else (3,)
        self.num_channels = tuple(_WIDTH * 2**stage for stage in self.outputs)
        self.patch_embed = PatchEmbed()
        self.layers = nn.ModuleList(
            Stage(_WIDTH * 2**stage, depth, heads, downsample=stage < 3)
            for stage, (depth, heads) in enumerate(zip(_DEPTHS, _HEADS, strict=True))
        )
        for stage in self.outputs:
            self.add_module(f"norm{stage}", nn.LayerNorm(_WIDTH * 2**stage))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps [B, C, h, w] of images [B, 3, H, W]."""
        features = self.patch_embed(images)
        maps = []
        for index, stage in enumerate(self.layers):
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                features = block(features)
            if index in self.outputs:
                maps.append(getattr(self, f"norm{index}")(features).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                features = stage.downsample(features)
        return tuple(maps)

    def feature_shapes(self, height: int, width: int) -> LevelShapes:
        """(h, w) of the feature maps for images of ``height`` × ``width``."""
        shapes = []
        shape = (-(-height // _PATCH), -(-width // _PATCH))
        for stage in range(4):
            if stage in self.outputs:
                shapes.append(shape)
            shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        return tuple(shapes)
