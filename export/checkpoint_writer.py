"""Writing checkpoints in the official layout."""

from __future__ import annotations

import argparse
import dataclasses
import io
from pathlib import Path

import torch

from sparse_detr_deploy.export.publish import publish
from sparse_detr_deploy.modeling import SparseDETR

_NOT_ARGUMENTS = ("num_classes", "refine_references")


def save_official_checkpoint(model: SparseDETR, path: str | Path) -> Path:
    """Write ``model`` as the official training code would: ``{'model', 'args'}``. Returns the path.

    Raises:
        OutputError: it cannot be written; a file that was there stays as it was.
    """
    path = Path(path)
    values = dataclasses.asdict(model.config)
    args = argparse.Namespace(**{key: value for key, value in values.items() if key not in _NOT_ARGUMENTS})
    tensors = model.state_dict()
    if not model.config.refines_references:  # the decoder of such a model has no box heads of its own
        tensors = {
            key: value for key, value in tensors.items() if not key.startswith("transformer.decoder.bbox_embed.")
        }
    # by way of memory, because torch.save hides the system's reason when a disk is full
    content = io.BytesIO()
    torch.save({"model": tensors, "args": args}, content)
    with publish(path, overwrite=True) as temporary:
        temporary.write_bytes(content.getbuffer())
    return path
