"""Backbones: feature maps of stride 8, 16 and 32 from images."""

from __future__ import annotations

from sparse_detr_deploy.modeling.backbones.resnet import ResNet
from sparse_detr_deploy.modeling.backbones.swin import SwinTransformer
from sparse_detr_deploy.modeling.backbones.thin_resnet import ThinResNet
from sparse_detr_deploy.modeling.config import ModelConfig


def build_backbone(config: ModelConfig) -> ResNet | SwinTransformer | ThinResNet:
    """The backbone of ``config``: ``forward(images)`` gives the feature maps, ``feature_shapes(h, w)`` their sizes,
    ``num_channels`` their widths."""
    if config.backbone == "thin-resnet18":
        return ThinResNet()
    return SwinTransformer(config) if config.backbone.startswith("swin") else ResNet(config)
