"""Reading trained checkpoints safely: official ``.pth``, bare state dicts, safetensors."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export.inference import config_from_tensors
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR, build_model

_SHOWN = 5
_HINT = "official files hold 'model' and 'args'; for a bare state dict put its arguments as JSON beside it"


@dataclasses.dataclass(frozen=True)
class _File:
    tensors: dict[str, Tensor]
    args: dict[str, Any]


def load_checkpoint(path: str | Path, config: ModelConfig | None = None) -> SparseDETR:
    """Read a checkpoint and return its network in eval mode, float32, on the CPU.

    The architecture comes from the official ``args`` or a JSON file beside the checkpoint (``<name>.json`` or
    ``config.json``, official argument names) and from the shapes of the tensors, which win where both tell. Nothing
    in the file is executed: of Python classes only ``argparse.Namespace`` is let through.

    Args:
        path: ``.pth``/``.pt`` with the official layout or a bare state dict, or ``.safetensors``.
        config: the architecture, where the file and its neighbours do not tell.

    Raises:
        CheckpointError: no checkpoint, truncated, unsafe, or one that does not fit its architecture.
    """
    path = Path(path)
    file = _read(path)
    tensors = _normalise(file.tensors, path)
    if config is None:
        config = config_from_tensors(tensors, {**_sidecar(path), **file.args})
    model = build_model(config)
    _load(model, tensors, path)
    model.source = {"file": path.name, "sha256": sha256_of(path)}
    return model


def _read(path: Path) -> _File:
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: give the checkpoint file in it")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty: the download or copy failed; get it again")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        if "Unsupported" in reason or "GLOBAL" in str(error) or "global" in str(error):
            raise CheckpointError(
                f"{path} holds Python objects other than tensors and argparse.Namespace, and nothing of them was run: "
                "save its state dict alone with torch.save(model.state_dict(), …)"
            ) from None
        raise CheckpointError(f"{path} is not a PyTorch checkpoint ({reason})") from None
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path} is damaged or not a PyTorch checkpoint ({reason}): get it again") from None
    return _split(content, path)


def _read_safetensors(path: Path) -> _File:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            described = (file.metadata() or {}).get("config", "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return _File(tensors, json.loads(described))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error}): get it again") from None


def _split(content: Any, path: Path) -> _File:
    """Find the state dict and the arguments in what ``torch.load`` gave."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict: {_HINT}")
    args = content.get("args", content.get("config", {}))
    args = vars(args) if isinstance(args, argparse.Namespace) else args
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors under 'model': {_HINT}")
    return _File(tensors, dict(args) if isinstance(args, Mapping) else {})


def _sidecar(path: Path) -> dict[str, Any]:
    for candidate in (path.with_suffix(".json"), path.with_name("config.json")):
        if candidate.is_file():
            try:
                values = json.loads(candidate.read_text())
            except ValueError as error:
                raise CheckpointError(f"{candidate} is not JSON ({error})") from None
            if not isinstance(values, dict):
                raise CheckpointError(f"{candidate} is not a JSON object of argument names and values")
            return values
    return {}


def _normalise(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Without ``module.`` prefixes and batch counters, float32, finite."""
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    result = {}
    for key, value in tensors.items():
        if key.endswith("num_batches_tracked"):
            continue
        if value.is_floating_point():
            value = value.float()
            if not torch.isfinite(value).all():
                raise CheckpointError(f"{path}: {key} holds NaN or infinity: the training diverged or the file is damaged")
        result[key] = value
    return result


def _load(model: SparseDETR, tensors: dict[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    tensors = _complete_aliases(expected, tensors, path)
    for key, value in expected.items():
        if key.endswith("relative_position_index"):
            tensors.setdefault(key, value)  # computed, and left out of some files
    missing = [key for key in expected if key not in tensors]
    unexpected = [key for key in tensors if key not in expected]
    shapes = [
        f"{key} is {list(tensors[key].shape)}, expected {list(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    problems = [
        f"{label}: {', '.join(keys[:_SHOWN])}{f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit the architecture that its arguments describe ({model.config.backbone}, "
            f"{model.config.enc_layers}+{model.config.dec_layers} layers): {'; '.join(problems)}"
        )
    model.load_state_dict(tensors)


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
