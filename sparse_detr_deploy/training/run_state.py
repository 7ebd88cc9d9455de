"""The file that a run goes on from."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.publish import publish
from sparse_detr_deploy.export.torch_file import read_values
from sparse_detr_deploy.training.phases import PHASES

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
    with reports_damage(path):
        state: dict[str, Any] = _on(device, read_values(path))
        other = next((name for name in _FIXED if config[name] != state["config"].get(name, config[name])), None)
        _check_progress(state)
    if other is not None:
        raise InputError(
            f"{path} is of a run with another {other}: give another output folder, or the config it was made with"
        )
    return state


@contextlib.contextmanager
def reports_damage(path: Path) -> Iterator[None]:
    """Turn whatever the block, which reads a state, raises into an :class:`InputError`."""
    try:
        yield
    except Exception as error:  # a damaged file may fail anywhere in the reader
        raise InputError(
            f"{path} is damaged, or not the state of a training run ({type(error).__name__}): give another output "
            "folder, or remove it to start anew"
        ) from None


def _check_progress(state: dict[str, Any]) -> None:
    """Raise ``ValueError`` where the state does not say how far its run has come, or says it of no run of ours."""
    counts = all(type(state[name]) is int and 0 <= state[name] < 2**63 for name in ("step", "images"))
    if not counts or state["phase"] not in PHASES or not 0 <= float(state["seconds"]) < math.inf:
        raise ValueError("no phase, step, images and seconds of a run")


def _on(device: torch.device, value: Any) -> Any:
    """``value`` with its tensors on ``device``."""
    if isinstance(value, dict):
        return {key: _on(device, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on(device, item) for item in value)
    return value.to(device) if isinstance(value, torch.Tensor) else value
