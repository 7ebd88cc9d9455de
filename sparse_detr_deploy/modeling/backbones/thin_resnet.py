"""A thin ResNet-18 (He et al. 2015; basic blocks, narrow stages) for small models: state dict named as torchvision's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_detr_deploy.modeling.backbones.resnet import FrozenBatchNorm2d
from sparse_detr_deploy.tokens import LevelShapes

WIDTHS = (24, 48, 96, 160)
BLOCKS = (2, 2, 2, 2)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a residual."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2: nn.Module = FrozenBatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), FrozenBatchNorm2d(channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """[B, Cin, H, W] to [B, Cout, H', W']."""
        identity = features if self.downsample is None else self.downsample(features)
        features = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.bn2(self.conv2(features)) + identity)


class ThinResNet(nn.Module):
    """C3, C4, C5 (strides 8, 16, 32); a 3×3 stem, because the images are small."""

    num_channels = WIDTHS[1:]

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 2, padding=1, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], BLOCKS[0])
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], BLOCKS[1])
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], BLOCKS[2])
        self.layer4 = _stage(WIDTHS[2], WIDTHS[3], BLOCKS[3])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps [B, C, h, w] of images [B, 3, H, W]."""
        features = self.layer1(F.relu(self.bn1(self.conv1(images))))
        c3 = self.layer2(features)
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)

    def feature_shapes(self, height: int, width: int) -> LevelShapes:
        """(h, w) of the feature maps for images of ``height`` × ``width``."""
        shapes = []
        for _ in range(5):
            height, width = (height + 1) // 2, (width + 1) // 2
            shapes.append((height, width))
        return tuple(shapes[2:])


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    """Blocks of one stage, which halves the map."""
    first = BasicBlock(in_channels, channels, stride=2)
    return nn.Sequential(first, *(BasicBlock(channels, channels, stride=1) for _ in range(blocks - 1)))
