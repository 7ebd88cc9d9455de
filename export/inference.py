"""The architecture of a checkpoint from the shapes of its tensors and its training arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.modeling import ModelConfig


def config_from_tensors(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> ModelConfig:
    """The architecture; what the shapes tell wins over ``args``, because they are what was trained.

    Raises:
        CheckpointError: not a detector of this family, or something neither shapes nor arguments tell.
    """
    if "transformer.level_embed" not in tensors or "class_embed.0.weight" not in tensors:
        raise CheckpointError(
            "no detector of the Deformable DETR family: transformer.level_embed or class_embed.0.weight is missing "
            f"(found {', '.join(list(tensors)[:3])}, …)"
        )
    levels, hidden_dim = tensors["transformer.level_embed"].shape
    two_stage = "transformer.enc_output.weight" in tensors
    sparse = "transformer.enc_mask_predictor.layer1.0.weight" in tensors
    told: dict[str, Any] = {
        "backbone": _backbone(tensors),
        "num_feature_levels": levels,
        "hidden_dim": hidden_dim,
        "num_classes": tensors["class_embed.0.weight"].shape[0],
        "enc_layers": _count(tensors, r"transformer\.encoder\.layers\.(\d+)\."),
        "dec_layers": _count(tensors, r"transformer\.decoder\.layers\.(\d+)\."),
        "two_stage": two_stage,
        "use_enc_aux_loss": "transformer.encoder.class_embed.0.weight" in tensors,
        "with_box_refine": _heads_differ(tensors),
    }
    feed_forward = tensors.get("transformer.decoder.layers.0.linear1.weight")
    if feed_forward is not None:
        told["dim_feedforward"] = feed_forward.shape[0]
    if two_stage and "transformer.pos_trans.weight" in tensors:
        told["eff_query_init"] = tensors["transformer.pos_trans.weight"].shape[0] == hidden_dim
    if not two_stage:
        told["refine_references"] = "transformer.decoder.bbox_embed.0.layers.0.weight" in tensors
        if "query_embed.weight" in tensors:
            told["num_queries"] = tensors["query_embed.weight"].shape[0]
    heads = int(args.get("nheads", 8))
    for part, layer in (("enc_n_points", "encoder.layers.0.self_attn"), ("dec_n_points", "decoder.layers.0.cross_attn")):
        weights = tensors.get(f"transformer.{layer}.attention_weights.weight")
        if weights is not None:
            told[part] = weights.shape[0] // (heads * levels)
    merged = {**args, **told}
    if sparse and not merged.get("rho"):
        raise CheckpointError(
            "the checkpoint has a scoring network (enc_mask_predictor) but no 'rho' among its arguments: "
            'put {"rho": 0.3, "eff_specific_head": true} as JSON beside it'
        )
    if not sparse:
        merged["rho"] = 0.0
    if sparse and "eff_specific_head" not in merged:
        merged["eff_specific_head"] = True  # every published sparse model
    return ModelConfig.from_mapping(merged)


def _count(tensors: Iterable[str], pattern: str) -> int:
    return 1 + max((int(match[1]) for key in tensors if (match := re.match(pattern, key))), default=-1)


def _backbone(tensors: Mapping[str, Tensor]) -> str:
    if "backbone.0.body.patch_embed.proj.weight" in tensors:
        return "swin-t"
    if "backbone.0.body.layer3.0.conv1.weight" in tensors:
        return "resnet101" if "backbone.0.body.layer3.22.conv1.weight" in tensors else "resnet50"
    raise CheckpointError("the backbone is neither a ResNet nor a Swin Transformer (no known backbone.0.body.* keys)")


def _heads_differ(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the box heads are separate modules: those of a model without refinement are one, saved several times."""
    first, second = (tensors.get(f"bbox_embed.{index}.layers.0.weight") for index in (0, 1))
    return first is not None and second is not None and not torch.equal(first, second)
