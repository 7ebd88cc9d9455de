"""The architecture of a checkpoint from its training arguments and the shapes of its tensors."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export.stored_tensor import StoredTensor
from sparse_detr_deploy.modeling import ModelConfig
from sparse_detr_deploy.modeling.config import BACKBONES
from sparse_detr_deploy.short_repr import short_repr, shown_name

_DECODER, _ENCODER = "transformer.decoder", "transformer.encoder"
# what tensors do not tell, with the values of the published models
_NEEDED = {"nheads": 8, "dilation": False, "num_queries": 300, "eff_specific_head": False}
_NEEDED_SPARSE = {"rho": 0.3, **_NEEDED, "eff_specific_head": True}
# arguments of the original Deformable DETR, which has none of the "eff_*" ones: it scores by the first class
_DEFORMABLE_DETR = {"two_stage", "with_box_refine", "dilation", "num_feature_levels", "dec_n_points", "focal_alpha"}
# what a network can have; more is a damaged file, and would take all memory before its tensors are compared
_LIMITS = {
    "num_classes": (1, 100_000),
    "num_queries": (1, 100_000),
    "num_feature_levels": (1, 8),
    "hidden_dim": (32, 4096),
    "nheads": (1, 256),
    "enc_layers": (1, 64),
    "dec_layers": (1, 64),
    "dim_feedforward": (1, 65_536),
    "enc_n_points": (1, 64),
    "dec_n_points": (1, 64),
}


Tensors = Mapping[str, StoredTensor]


def config_from_tensors(tensors: Tensors, args: Mapping[str, Any], read: Callable[[str], Tensor]) -> ModelConfig:
    """The architecture: what ``args`` tell, and the rest from the shapes.

    Loading compares the two, so ``args`` that are wrong end in a message that names the keys. ``read`` gives the
    values of a tensor; the heads' alone are asked for.

    Raises:
        CheckpointError: not a detector of this family, arguments of a wrong type, or something neither shapes nor
            arguments tell.
    """
    levels, hidden_dim = _shape(tensors, "transformer.level_embed", 2)
    classes, _ = _shape(tensors, "class_embed.0.weight", 2)
    two_stage = "transformer.enc_output.weight" in tensors
    sparse = "transformer.enc_mask_predictor.layer1.0.weight" in tensors
    args = checked_arguments(args)
    told: dict[str, Any] = {
        "backbone": _backbone(tensors),
        "num_feature_levels": levels,
        "hidden_dim": hidden_dim,
        "num_classes": classes,
        "enc_layers": _count(tensors, f"{_ENCODER}.layers."),
        "dec_layers": _count(tensors, f"{_DECODER}.layers."),
        "two_stage": two_stage,
    }
    check_limits(told)
    told["with_box_refine"] = _heads_differ(tensors, read)
    told["refine_references"] = _refines(tensors, two_stage, args.get("with_box_refine", told["with_box_refine"]))
    heads = _count(tensors, "class_embed.")
    told["use_enc_aux_loss"] = f"{_ENCODER}.class_embed.0.weight" in tensors or heads > told["dec_layers"] + two_stage
    if f"{_DECODER}.layers.0.linear1.weight" in tensors:
        told["dim_feedforward"] = _shape(tensors, f"{_DECODER}.layers.0.linear1.weight", 2)[0]
    if two_stage:
        told["eff_query_init"] = _shape(tensors, "transformer.pos_trans.weight", 2)[0] == hidden_dim
    elif "query_embed.weight" in tensors:
        told["num_queries"] = _shape(tensors, "query_embed.weight", 2)[0]
    told.update(_attention(tensors, args, levels, hidden_dim))
    if two_stage and not told["eff_query_init"] and args.keys() >= _DEFORMABLE_DETR:
        told.update({} if any(name.startswith("eff_") for name in args) else {"eff_specific_head": False})
    _require({**told, **args}, sparse)
    if args.get("backbone") not in BACKBONES:
        args.pop("backbone", None)
    values = {**told, **args}
    check_limits(values)
    return ModelConfig.from_mapping(values)


def _attention(tensors: Tensors, args: Mapping[str, Any], levels: int, hidden_dim: int) -> dict[str, int]:
    """Heads and points a head, as far as they are told: the shapes hold their product only."""
    products = {
        part: _shape(tensors, f"{layer}.attention_weights.weight", 2)[0] // max(levels, 1)
        for part, layer in (
            ("enc_n_points", f"{_ENCODER}.layers.0.self_attn"),
            ("dec_n_points", f"{_DECODER}.layers.0.cross_attn"),
        )
        if f"{layer}.attention_weights.weight" in tensors
    }
    heads = [product // args[part] for part, product in products.items() if part in args]
    heads += [1] if math.gcd(hidden_dim, *products.values()) == 1 else []
    heads = [args["nheads"]] if "nheads" in args else heads[:1]
    if not heads or heads[0] < 1:
        return {}
    return {"nheads": heads[0], **{part: product // heads[0] for part, product in products.items()}}


def _require(values: Mapping[str, Any], sparse: bool) -> None:
    """Raise :class:`CheckpointError` where something that the results depend on is told nowhere.

    Dilation is asked of every ResNet: the published single-scale models alone have it (DC5), but this code and the
    original build it with any number of levels, and the tensors are the same.
    """
    needed = ["nheads", *(["dilation"] if str(values["backbone"]).startswith("resnet") else [])]
    needed += ["num_queries", "eff_specific_head"] if values["two_stage"] else []
    missing = [name for name in needed if name not in values]
    reasons = []
    if missing:
        reasons.append(f"neither its tensors nor its arguments tell {', '.join(missing)}")
    if sparse and not values.get("rho"):
        reasons.append("it has a scoring network (enc_mask_predictor) but no keep ratio 'rho' among its arguments")
        missing.append("rho")
    if missing:
        example = {name: value for name, value in (_NEEDED_SPARSE if sparse else _NEEDED).items() if name in missing}
        raise CheckpointError(
            f"{' and '.join(reasons)}: put {json.dumps(example)} with the values it was trained with as JSON beside it "
            "(name.json for name.pth)"
        )


def checked_arguments(args: Mapping[str, Any]) -> dict[str, Any]:
    """``args`` without ``None``, the fields of :class:`ModelConfig` among them of the right type."""
    result = {str(key): value for key, value in args.items() if value is not None}
    for field in dataclasses.fields(ModelConfig):
        if field.name not in result:
            continue
        value, kind = result[field.name], str(field.type).split(" ")[0]
        if kind == "bool" and isinstance(value, int) and value in (0, 1):
            result[field.name] = bool(value)
        elif kind == "int" and _is_whole(value):
            result[field.name] = int(value)
        elif kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
            result[field.name] = float(value)
        elif kind != "str" or not isinstance(value, str):
            raise CheckpointError(f"its argument {field.name} is {short_repr(value)}, but {kind} is needed")
    check_limits(result)
    return result


def check_limits(values: Mapping[str, Any]) -> None:
    """Raise :class:`CheckpointError` where a size among ``values`` (fields of ``ModelConfig``) is out of reason."""
    for name, (least, most) in _LIMITS.items():
        if name in values and not least <= values[name] <= most:
            raise CheckpointError(f"{name} is {short_repr(values[name])}, but {least} to {most} is possible")


def _shape(tensors: Tensors, key: str, dimensions: int) -> tuple[int, ...]:
    if key not in tensors:
        found = ", ".join(map(shown_name, list(tensors)[:3]))
        raise CheckpointError(f"no detector of the Deformable DETR family: {key} is missing (found {found}, …)")
    if tensors[key].ndim != dimensions:
        raise CheckpointError(f"{key} is {list(tensors[key].shape)}, but {dimensions} dimensions are expected")
    return tuple(tensors[key].shape)


def _is_whole(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _count(tensors: Iterable[str], prefix: str) -> int:
    numbered = re.compile(re.escape(prefix) + r"([0-9]{1,9})\.")
    return 1 + max((int(match[1]) for key in tensors if (match := numbered.match(key))), default=-1)


def _backbone(tensors: Tensors) -> str:
    if "backbone.0.body.patch_embed.proj.weight" in tensors:
        return "swin-t"
    if "backbone.0.body.layer3.0.conv1.weight" in tensors:
        if "backbone.0.body.layer3.0.conv3.weight" not in tensors:  # basic blocks
            return "thin-resnet18"
        return "resnet101" if "backbone.0.body.layer3.22.conv1.weight" in tensors else "resnet50"
    raise CheckpointError("the backbone is neither a ResNet nor a Swin Transformer (no known backbone.0.body.* keys)")


def _heads_differ(tensors: Tensors, read: Callable[[str], Tensor]) -> bool:
    """Whether the heads are separate modules: those of a model without refinement are one, saved several times."""
    first: dict[tuple[str, str], str] = {}  # the first head's name of a tensor, by the tensor's place in a head
    others: list[tuple[str, tuple[str, str]]] = []
    for key in tensors:
        match = re.fullmatch(r"(class_embed|bbox_embed)\.([0-9]{1,9})\.(.+)", key)
        if match is None:
            continue
        place = (match[1], match[3])
        if int(match[2]) == 0:
            first[place] = key
        else:
            others.append((key, place))
    values: dict[str, Tensor] = {}
    for key, place in others:
        if place not in first or tensors[key] == tensors[first[place]]:
            continue
        if tensors[key].shape != tensors[first[place]].shape or tensors[key].dtype != tensors[first[place]].dtype:
            return True
        if first[place] not in values:
            values[first[place]] = read(first[place])
        if not torch.equal(values[first[place]], read(key)):
            return True
    return False


def _refines(tensors: Tensors, two_stage: bool, box_refine: bool) -> bool:
    """Whether the decoder moves its reference points: it then has the box heads under its own name too.

    Of two-stage models only those that the original Deformable DETR trained without box refinement do not; their
    decoder has the class heads and no box heads. A file that stores shared tensors once may have neither.
    """
    if f"{_DECODER}.bbox_embed.0.layers.0.weight" in tensors:
        return True
    return two_stage and (box_refine or f"{_DECODER}.class_embed.0.weight" not in tensors)
