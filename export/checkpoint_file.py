"""Checkpoint files: tensors and training arguments out of them, with nothing in the file executed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.errors import CheckpointError

_HINT = "official files hold 'model' and 'args'; for a bare state dict put its arguments as JSON beside it"
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch.save before 1.6
_PICKLE = b"\x80"


@dataclasses.dataclass(frozen=True)
class CheckpointFile:
    """Tensors by key as they stand in the file, and the training arguments that the file holds (may be empty)."""

    tensors: dict[str, Tensor]
    args: dict[str, Any]


def read_checkpoint(path: Path) -> CheckpointFile:
    """Read a ``.pth``/``.pt`` of ``torch.save`` (either format) or a ``.safetensors`` file.

    Of Python classes only ``argparse.Namespace`` is let through.

    Raises:
        CheckpointError: missing, empty, truncated, no checkpoint, or with Python objects in it.
    """
    try:
        if not path.exists():
            raise CheckpointError(f"{path} does not exist")
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder: give the checkpoint file in it")
        with path.open("rb") as file:
            start = file.read(64)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise CheckpointError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not start:
        raise CheckpointError(f"{path} is empty: the download or copy failed; get it again")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if not start.startswith((_ZIP, _LEGACY)):
        described = "a Python pickle that torch.save did not write" if start.startswith(_PICKLE) else "something else"
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint but {described} (it begins with {start[:16]!r}); nothing of it was run"
        )
    return _split(_load_tensors_only(path), path)


def _load_tensors_only(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, of damaged files
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail anywhere in the reader, with any error
        text = str(error)
        refused = re.search(r"GLOBAL ([\w.]+)", text)
        if isinstance(error, pickle.UnpicklingError) and refused is not None:
            raise CheckpointError(
                f"{path} holds Python objects other than tensors and argparse.Namespace ({refused[1]}), and nothing of "
                "them was run: if you trust it, load it where it was made and save its 'model' and 'args' again"
            ) from None
        if "TorchScript" in text:
            raise CheckpointError(f"{path} is a TorchScript program, not a checkpoint: save its state dict") from None
        raise CheckpointError(
            f"{path} is damaged, truncated or not a PyTorch checkpoint ({_reason(error)}): get it again"
        ) from None


def _reason(error: Exception) -> str:
    """The first line, unless it is PyTorch's advice on an argument that our user cannot set."""
    first = str(error).split("\n")[0][:120]
    return type(error).__name__ if not first or "weights_only" in first or "Weights only" in first else first


def _read_safetensors(path: Path) -> CheckpointFile:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise CheckpointError(f"{path} needs the package safetensors: pip install safetensors") from None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            described = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        args = json.loads(described.get("config", "{}"))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error}): get it again") from None
    # save_model stores a shared tensor once and says under which name the others lie
    tensors.update({key: tensors[kept] for key, kept in described.items() if kept in tensors and key not in tensors})
    return CheckpointFile(tensors, args if isinstance(args, dict) else {})


def _split(content: Any, path: Path) -> CheckpointFile:
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
    return CheckpointFile(tensors, dict(args) if isinstance(args, Mapping) else {})


def read_sidecar(path: Path, has_args: bool) -> dict[str, Any]:
    """Training arguments from the JSON file beside a checkpoint; empty where there is none.

    ``<name>.json`` always counts; ``config.json`` only for a checkpoint without arguments, because it may belong to
    something else in the folder.

    Raises:
        CheckpointError: the file is no JSON object.
    """
    candidates = [path.with_name(f"{path.name}.json"), path.with_suffix(".json")]
    for candidate in candidates if has_args else [*candidates, path.with_name("config.json")]:
        if not os.path.isfile(candidate) or candidate == path:  # a name that is too long is none, too
            continue
        try:
            values = json.loads(candidate.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:  # RecursionError: thousands of brackets
            raise CheckpointError(f"{candidate} is not JSON ({error})") from None
        if isinstance(values, dict) and isinstance(values.get("args"), dict):
            values = values["args"]
        if not isinstance(values, dict):
            raise CheckpointError(f"{candidate} is not a JSON object of argument names and values")
        return values
    return {}
