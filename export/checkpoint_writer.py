"""Writing checkpoints in the official layout."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from sparse_detr_deploy.export.publish import publish
from sparse_detr_deploy.modeling import SparseDETR

_NOT_ARGUMENTS = ("num_classes", "refine_references")


def save_official_checkpoint(model: SparseDETR, path: str | Path) -> Path:
    """Write ``model`` as the official training code would: ``{'model', 'args'}``. Returns the path."""
    path = Path(path)
    values = dataclasses.asdict(model.config)
    args = argparse.Namespace(**{key: value for key, value in values.items() if key not in _NOT_ARGUMENTS})
    with publish(path, overwrite=True) as temporary:
        torch.save({"model": model.state_dict(), "args": args}, temporary)
    return path
