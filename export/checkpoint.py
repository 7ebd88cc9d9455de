"""Loading trained checkpoints: official ``.pth``, bare state dicts, safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export.checkpoint_file import read_checkpoint, read_sidecar
from sparse_detr_deploy.export.inference import config_from_tensors
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR, build_model

_SHOWN = 5
_DECODER = "transformer.decoder."
_OBJECTNESS = "transformer.enc_mask_predictor.class_head."


def load_checkpoint(path: str | Path, config: ModelConfig | None = None) -> SparseDETR:
    """Read a checkpoint and return its network in eval mode, float32, on the CPU.

    The architecture comes from the official ``args`` in the file or from a JSON file of them beside it
    (``<name>.json``, or ``config.json`` where the file has none), and what they do not tell from the shapes of the
    tensors. Where the two contradict each other the checkpoint is refused. Nothing in the file is executed: of Python
    classes only ``argparse.Namespace`` is let through.

    Args:
        path: ``.pth``/``.pt`` with the official layout or a bare state dict, or ``.safetensors``.
        config: the architecture, where the file and its neighbours do not tell.

    Raises:
        CheckpointError: no checkpoint, truncated, unsafe, or one that does not fit its architecture.
    """
    path = Path(path)
    file = read_checkpoint(path)
    tensors = _normalise(file.tensors, path)
    if config is None:
        args = {**read_sidecar(path, bool(file.args)), **file.args}
        try:
            config = config_from_tensors(tensors, args)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    model = build_model(config)
    _load(model, tensors, path)
    model.source = {"file": path.name, "sha256": sha256_of(path)}
    return model


def _normalise(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Without ``module.`` prefixes and batch counters, float32, finite, heads under their own names."""
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    result = {}
    for key, value in tensors.items():
        if key.endswith("num_batches_tracked"):
            continue
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
            raise CheckpointError(f"{path}: {key} is not a plain dense tensor: save the network in float32")
        if value.is_floating_point():
            value = value.float()
            if not torch.isfinite(value).all():
                raise CheckpointError(
                    f"{path}: {key} holds NaN or infinity: the training diverged or the file is damaged"
                )
        result[key] = value
    # a file that stores shared tensors once may have kept the decoder's names of the heads
    for key, value in list(result.items()):
        if key.startswith((f"{_DECODER}class_embed.", f"{_DECODER}bbox_embed.")):
            result.setdefault(key.removeprefix(_DECODER), value)
    return result


def _load(model: SparseDETR, tensors: dict[str, Tensor], path: Path) -> None:
    if any(key.startswith(_OBJECTNESS) for key in tensors):
        raise CheckpointError(
            f"{path} selects its tokens by objectness, which sparse-detr-train offers for comparison only: "
            'train with saliency = "dam"; sparse-detr-train CONFIG --evaluate measures this one'
        )
    expected = model.state_dict()
    tensors = _complete_aliases(expected, tensors, path)
    for key, value in expected.items():
        if key.endswith("relative_position_index"):
            tensors.setdefault(key, value)  # computed, and left out of some files
    missing = [f"{key} {list(value.shape)}" for key, value in expected.items() if key not in tensors]
    unexpected = [f"{key} {list(value.shape)}" for key, value in tensors.items() if key not in expected]
    wrong = [
        f"{key} is {_described(tensors[key])}, expected {_described(value)}"
        for key, value in expected.items()
        if key in tensors and _described(tensors[key]) != _described(value)
    ]
    problems = [
        f"{label}: {', '.join(keys[:_SHOWN])}{f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape or type", wrong))
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit the architecture that its arguments describe ({_summary(model.config)}): "
            f"{'; '.join(problems)}"
        )
    model.load_state_dict(tensors)


def _described(value: Tensor) -> str:
    return f"{list(value.shape)}" + ("" if value.is_floating_point() else f" {value.dtype}")


def _summary(config: ModelConfig) -> str:
    parts = [config.backbone, f"{config.enc_layers}+{config.dec_layers} layers"]
    parts += [f"{config.num_feature_levels} levels", f"{config.num_classes} classes", f"{config.num_queries} queries"]
    parts += ["two-stage"] if config.two_stage else ["one-stage"]
    parts += ["box refinement"] if config.with_box_refine else []
    return ", ".join([*parts, f"rho {config.rho:g}" if config.is_sparse else "dense"])


def _complete_aliases(expected: dict[str, Tensor], tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Head modules stand under two or three names: fill those that are left out, refuse those that disagree."""
    names: dict[int, list[str]] = {}
    for key, value in expected.items():
        names.setdefault(value.data_ptr(), []).append(key)
    result = dict(tensors)
    for aliases in names.values():
        present = [key for key in aliases if key in tensors]
        if not present or len(aliases) == 1:
            continue
        first = tensors[present[0]]
        for key in present[1:]:
            if tensors[key].shape != first.shape or not torch.equal(tensors[key], first):
                raise CheckpointError(f"{path}: {present[0]} and {key} name one tensor but hold different values")
        result.update({key: first for key in aliases if key not in tensors})
    return result
