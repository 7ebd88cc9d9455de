"""The file that a run goes on from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.publish import publish
from sparse_detr_deploy.export.torch_file import read_values

_FIXED = ("model", "scenes", "dataset", "seed", "saliency", "backbone_weights")  # of the config, for a whole run


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state, whole or not at all.

    Raises:
        OutputError: it cannot be written; what was there stays.
    """
    # by way of memory, because torch.save hides the system's reason when a disk is full
    content = io.BytesIO()
    torch.save(state, content)
    with publish(path, overwrite=True) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_state(path: Path, config: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Read a state that a run of ``config`` (plain values) can go on from.

    Raises:
        InputError: it is damaged, or of a run with another architecture, seed, or start.
    """
    try:
        state: dict[str, Any] = _on(device, read_values(path))
        theirs = state["config"]
    except Exception as error:  # a damaged file may fail anywhere in the reader
        raise InputError(f"{path} is damaged ({type(error).__name__}): remove it to start anew") from None
    for section in _FIXED:
        if config[section] != theirs.get(section, config[section]):
            raise InputError(
                f"{path} is of a run with another {section}: give another output folder, or the config it was made with"
            )
    return state


def _on(device: torch.device, value: Any) -> Any:
    """``value`` with its tensors on ``device``."""
    if isinstance(value, dict):
        return {key: _on(device, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on(device, item) for item in value)
    return value.to(device) if isinstance(value, torch.Tensor) else value
