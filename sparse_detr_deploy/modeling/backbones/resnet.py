"""ResNet with frozen batch norms (He et al. 2015; stride in the 3×3 convolution), state dict as torchvision's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.tokens import LevelShapes

_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_EXPANSION = 4


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics and fixed scale: buffers only, one multiply and one add."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    epsilon = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The two [C] vectors of y = scale · x + shift."""
        scale = self.weight * (self.running_var + self.epsilon).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        scale, shift = self.scale_and_shift()
        return features * scale[:, None, None] + shift[:, None, None]


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions around a residual."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int, downsample: bool) -> None:
        super().__init__()
        out_channels = channels * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2: nn.Module = FrozenBatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3: nn.Module = FrozenBatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), FrozenBatchNorm2d(out_channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """[B, Cin, H, W] to [B, Cout, H', W']."""
        identity = features if self.downsample is None else self.downsample(features)
        features = F.relu(self.bn1(self.conv1(features)))
        features = F.relu(self.bn2(self.conv2(features)))
        return F.relu(self.bn3(self.conv3(features)) + identity)


class ResNet(nn.Module):
    """C3, C4, C5 of a ResNet (C5 alone for one feature level)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.multi_level = config.num_feature_levels > 1
        self.dilation = config.dilation
        self.num_channels = (512, 1024, 2048) if self.multi_level else (2048,)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm2d(64)
        blocks = _BLOCKS[config.backbone]
        self.layer1 = _stage(64, 64, blocks[0], stride=1)
        self.layer2 = _stage(256, 128, blocks[1], stride=2)
        self.layer3 = _stage(512, 256, blocks[2], stride=2)
        self.layer4 = _stage(1024, 512, blocks[3], stride=2, dilate=config.dilation)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps [B, C, h, w] of images [B, 3, H, W]."""
        features = F.relu(self.bn1(self.conv1(images)))
        features = self.layer1(F.max_pool2d(features, 3, 2, padding=1))
        c3 = self.layer2(features)
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        return (c3, c4, c5) if self.multi_level else (c5,)

    def feature_shapes(self, height: int, width: int) -> LevelShapes:
        """(h, w) of the feature maps for images of ``height`` × ``width``."""

        def halved(shape: tuple[int, int], times: int) -> tuple[int, int]:
            for _ in range(times):
                shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
            return shape

        c3 = halved((height, width), 3)
        c4 = halved(c3, 1)
        c5 = c4 if self.dilation else halved(c4, 1)
        return (c3, c4, c5) if self.multi_level else (c5,)


def _stage(in_channels: int, channels: int, blocks: int, stride: int, dilate: bool = False) -> nn.Sequential:
    """Blocks of one stage. A dilated stage keeps its stride as dilation, from the second block on (DC5)."""
    first_stride, dilation = (1, stride) if dilate else (stride, 1)
    first = Bottleneck(in_channels, channels, first_stride, 1, downsample=True)
    others = [Bottleneck(channels * _EXPANSION, channels, 1, dilation, downsample=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every frozen batch norm below ``module`` into the convolution before it, in place. For inference."""
    for child in list(module.modules()):
        for index in (1, 2, 3):  # a stem has one pair, a basic block two, a bottleneck three
            convolution, norm = getattr(child, f"conv{index}", None), getattr(child, f"bn{index}", None)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                setattr(child, f"conv{index}", _folded(convolution, norm))
                setattr(child, f"bn{index}", nn.Identity())
        shortcut = getattr(child, "downsample", None)
        if isinstance(shortcut, nn.Sequential) and isinstance(shortcut[-1], FrozenBatchNorm2d):
            child.downsample = nn.Sequential(_folded(shortcut[0], shortcut[1]))


@torch.no_grad()
def _folded(convolution: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(convolution, nn.Conv2d)
    if not isinstance(norm, FrozenBatchNorm2d):
        return convolution
    # in float64: folding must not add rounding of its own
    variance = norm.running_var.double() + norm.epsilon
    scale = norm.weight.double() / variance.sqrt()
    folded = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        kernel_size=convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        dilation=convolution.dilation,  # type: ignore[arg-type]
    )
    folded.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
    assert folded.bias is not None
    folded.bias.copy_(norm.bias.double() - norm.running_mean.double() * scale)
    return folded
