"""Loading trained checkpoints: official ``.pth``, bare state dicts, safetensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export.checkpoint_file import OpenCheckpoint, open_checkpoint, read_sidecar
from sparse_detr_deploy.export.inference import config_from_tensors
from sparse_detr_deploy.export.stored_tensor import StoredTensor
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR, build_model
from sparse_detr_deploy.short_repr import shown_name

_SHOWN = 5
_DECODER = "transformer.decoder."
_OBJECTNESS = "transformer.enc_mask_predictor.class_head."
_COMPUTED, _COMPUTED_BYTES = "relative_position_index", 2**20
_MOST_GROWTH = 8  # 2 of a file in half precision; the rest for tensors that share their values without being one


class _Unfilled(TorchFunctionMode):
    """Leaves out random values; on the meta device there are none, and PyTorch would import a compiler (1 s)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.nn.init.normal_:
            return next(iter([*args, *(kwargs or {}).values()]))
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


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
    with open_checkpoint(path) as file:
        names = _own_names(file.tensors)
        stored = {name: file.tensors[key] for name, key in names.items()}
        if config is None:
            args = {**read_sidecar(path, bool(file.args)), **file.args}
            try:
                config = config_from_tensors(stored, args, lambda name: file.read(names[name]))
            except CheckpointError as error:
                raise CheckpointError(f"{path}: {error}") from None
        aliases = _check_fit(config, stored, file)
        tensors = _read(names, stored, aliases, file)
        source = {"file": path.name, "sha256": file.sha256()}
    model = build_model(config)
    # what is computed is left out of some files
    computed = {key: value for key, value in model.state_dict().items() if key.endswith(_COMPUTED)}
    model.load_state_dict({**computed, **tensors})
    model.source = source
    return model


def _own_names(tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """The key in the file by the network's name: without ``module.`` prefixes and batch counters, and heads under
    their own names, too."""
    prefix = "module." if all(key.startswith("module.") for key in tensors) else ""
    result = {key.removeprefix(prefix): key for key in tensors if not key.endswith("num_batches_tracked")}
    # a file that stores shared tensors once may have kept the decoder's names of the heads
    for name, key in list(result.items()):
        if name.startswith((f"{_DECODER}class_embed.", f"{_DECODER}bbox_embed.")):
            result.setdefault(name.removeprefix(_DECODER), key)
    return result


def _check_fit(config: ModelConfig, stored: Mapping[str, StoredTensor], file: OpenCheckpoint) -> list[list[str]]:
    """Compare the file's tensors with those of the architecture before one is read or made.

    Returns:
        The names of each tensor of the network; head modules stand under two or three.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape, or the network is far larger than the
            file.
    """
    path = file.path
    if any(key.startswith(_OBJECTNESS) for key in stored):
        raise CheckpointError(
            f"{path} selects its tokens by objectness, which sparse-detr-train offers for comparison only: "
            'train with saliency = "dam"; sparse-detr-train CONFIG --evaluate measures this one'
        )
    with torch.device("meta"), _Unfilled():
        expected: dict[str, Tensor] = build_model(config).state_dict(keep_vars=True)
    aliases: dict[int, list[str]] = {}
    for name, value in expected.items():
        aliases.setdefault(id(value), []).append(name)
    present = {name for names in aliases.values() if any(name in stored for name in names) for name in names}
    missing = [
        f"{key} {list(value.shape)}"
        for key, value in expected.items()
        if key not in present and not key.endswith(_COMPUTED)
    ]
    unexpected = [f"{shown_name(key)} {list(value.shape)}" for key, value in stored.items() if key not in expected]
    wrong = [
        f"{key} is {_described(stored[key])}, expected {_described(value)}"
        for key, value in expected.items()
        if key in stored and _described(stored[key]) != _described(value)
    ]
    problems = [
        f"{label}: {', '.join(keys[:_SHOWN])}{f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape or type", wrong))
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit the architecture that its arguments describe ({_summary(config)}): "
            f"{'; '.join(problems)}"
        )
    needed = sum(expected[names[0]].nbytes for names in aliases.values())
    if needed > _MOST_GROWTH * file.size + _COMPUTED_BYTES:
        raise CheckpointError(
            f"{path} describes a network of {needed:,} bytes by a file of {file.size:,}: its tensors share their values"
        )
    return list(aliases.values())


def _read(
    names: Mapping[str, str], stored: Mapping[str, StoredTensor], aliases: list[list[str]], file: OpenCheckpoint
) -> dict[str, Tensor]:
    """The network's tensors in float32, finite, under all their names; those of one tensor must agree."""
    result: dict[str, Tensor] = {}
    for group in aliases:
        present = [name for name in group if name in stored]
        if not present:
            continue
        first, known = present[0], {stored[present[0]]}
        value = _finite(first, names, file)
        for name in present[1:]:
            if stored[name] in known:
                continue
            known.add(stored[name])
            if not torch.equal(_finite(name, names, file), value):
                raise CheckpointError(f"{file.path}: {first} and {name} name one tensor but hold different values")
        result.update(dict.fromkeys(group, value))
    return result


def _finite(name: str, names: Mapping[str, str], file: OpenCheckpoint) -> Tensor:
    value = file.read(names[name])
    if not value.is_floating_point():
        return value
    value = value.float()
    if not torch.isfinite(value).all():
        raise CheckpointError(
            f"{file.path}: {name} holds NaN or infinity: the training diverged or the file is damaged"
        )
    return value


def _described(value: Tensor | StoredTensor) -> str:
    return f"{list(value.shape)}" + ("" if value.dtype.is_floating_point else f" {value.dtype}")


def _summary(config: ModelConfig) -> str:
    parts = [config.backbone, f"{config.enc_layers}+{config.dec_layers} layers"]
    parts += [f"{config.num_feature_levels} levels", f"{config.num_classes} classes", f"{config.num_queries} queries"]
    parts += ["two-stage"] if config.two_stage else ["one-stage"]
    parts += ["box refinement"] if config.with_box_refine else []
    return ", ".join([*parts, f"rho {config.rho:g}" if config.is_sparse else "dense"])
