"""The names that Hugging Face transformers gives the tensors of the official state dict of a Deformable DETR."""

from __future__ import annotations

import re

from torch import Tensor

_NAMES = [
    (r"^transformer\.(encoder|decoder)\.layers\.(\d+)\.linear([12])\.", r"model.\1.layers.\2.mlp.fc\3."),
    (r"^transformer\.encoder\.layers\.(\d+)\.norm1\.", r"model.encoder.layers.\1.self_attn_layer_norm."),
    (r"^transformer\.encoder\.layers\.(\d+)\.norm2\.", r"model.encoder.layers.\1.final_layer_norm."),
    (r"^transformer\.decoder\.layers\.(\d+)\.norm1\.", r"model.decoder.layers.\1.encoder_attn_layer_norm."),
    (r"^transformer\.decoder\.layers\.(\d+)\.norm2\.", r"model.decoder.layers.\1.self_attn_layer_norm."),
    (r"^transformer\.decoder\.layers\.(\d+)\.norm3\.", r"model.decoder.layers.\1.final_layer_norm."),
    (r"^transformer\.decoder\.layers\.(\d+)\.cross_attn\.", r"model.decoder.layers.\1.encoder_attn."),
    (r"^transformer\.decoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"model.decoder.layers.\1.self_attn.o_proj."),
    (r"^transformer\.", "model."),
    (r"^input_proj\.", "model.input_proj."),
    (r"^query_embed\.", "model.query_position_embeddings."),
]
_RESNET = [
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", r"encoder.stages.\1.layers.\2.layer.\3.convolution."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", r"encoder.stages.\1.layers.\2.layer.\3.normalization."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", r"encoder.stages.\1.layers.\2.shortcut.convolution."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", r"encoder.stages.\1.layers.\2.shortcut.normalization."),
]


def detector_state(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of ``DeformableDetrForObjectDetection`` without its backbone."""
    state = {}
    for name, tensor in official.items():
        if name.startswith("backbone."):
            continue
        if in_projection := re.fullmatch(r"(.*self_attn)\.in_proj_(weight|bias)", name):
            prefix, kind = _renamed(in_projection[1] + ".", _NAMES), in_projection[2]
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                state[f"{prefix}{letter}_proj.{kind}"] = part
        else:
            state[_renamed(name, _NAMES)] = tensor
    return state


def resnet_state(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a ``ResNetBackbone`` from that of a ResNet with torchvision's names."""
    state = {}
    for name, tensor in official.items():
        renamed = _renamed(name, _RESNET)
        # they count stages and layers from 0
        renamed = re.sub(r"(stages\.|\.layer\.)(\d)", lambda found: f"{found[1]}{int(found[2]) - 1}", renamed)
        state[renamed] = tensor
    return state


def _renamed(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name)
    return name
