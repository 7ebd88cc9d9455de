"""What honest programs write, though none of ours does, loads as it was."""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_detr_deploy.export import load_checkpoint
from sparse_detr_deploy.modeling import SparseDETR
from tests.export.hostile_checkpoints import ENDLESS, NORM


def half(content: dict[str, Any], path: Path) -> Path:
    content["model"] = {key: value.bfloat16().float().bfloat16() for key, value in content["model"].items()}
    torch.save(content, path)
    return path


def doubles(content: dict[str, Any], path: Path) -> Path:
    content["model"] = {key: value.double() for key, value in content["model"].items()}
    torch.save(content, path)
    return path


def parameters(content: dict[str, Any], path: Path) -> Path:
    model = {key: torch.nn.Parameter(value) for key, value in content["model"].items()}
    model[NORM].no_weight_decay = True  # type: ignore[attr-defined]
    content["model"] = OrderedDict(model)
    torch.save(content, path)
    return path


def channels_last(content: dict[str, Any], path: Path) -> Path:
    content["model"] = {
        key: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value.mT.contiguous().mT
        for key, value in content["model"].items()
        if value.ndim in (2, 4)
    } | {key: value for key, value in content["model"].items() if value.ndim not in (2, 4)}
    torch.save(content, path)
    return path


def one_storage(content: dict[str, Any], path: Path) -> Path:
    """All tensors of a type are views of one storage with something before and behind."""
    flat = torch.cat([torch.zeros(7), *(value.flatten() for value in content["model"].values()), torch.zeros(9)])
    place, views = 7, {}
    for key, value in content["model"].items():
        views[key] = flat[place : place + value.numel()].view(value.shape)
        place += value.numel()
    torch.save({**content, "model": views}, path)
    return path


def one_storage_legacy(content: dict[str, Any], path: Path) -> Path:
    one_storage(content, path)
    torch.save(torch.load(path, weights_only=False), path, _use_new_zipfile_serialization=False)
    return path


def with_a_trainer(content: dict[str, Any], path: Path) -> Path:
    """Optimizer, schedule and counters; and tensors of any kind outside of the state dict."""
    network = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 4])
    content["model"] = {**content["model"], "backbone.0.body.bn1.num_batches_tracked": torch.tensor(7)}
    extra = {"sparse": torch.eye(3).to_sparse(), "complex": torch.ones(2, dtype=torch.complex64), "endless": ENDLESS}
    extra |= {"device": torch.device("cpu"), "size": torch.Size([3]), "dtype": torch.float16, "bytes": b"abc"}
    content |= {"optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict(), "epoch": 3, "extra": extra}
    content["args"].device = torch.device("cuda")
    torch.save(content, path)
    return path


def other_byte_order(content: dict[str, Any], path: Path) -> Path:
    """As a machine of the other byte order would write it."""
    other = "big" if sys.byteorder == "little" else "little"
    torch.save(content, path)
    with zipfile.ZipFile(path) as file:
        records = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, value in records.items():
            swapped = b"".join(value[place : place + 4][::-1] for place in range(0, len(value), 4))
            file.writestr(name, other if name.endswith("/byteorder") else swapped if "/data/" in name else value)
    return path


@pytest.mark.parametrize(
    "form",
    [half, doubles, parameters, channels_last, one_storage, one_storage_legacy, with_a_trainer, other_byte_order],
    ids=lambda form: form.__name__,
)
def test_honest_files_load(
    form: Callable[[dict[str, Any], Path], Path], network: SparseDETR, official: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(official)
    content = torch.load(path, weights_only=False)
    assert isinstance(content["args"], argparse.Namespace)
    wanted = {key: value.bfloat16().float() if form is half else value for key, value in network.state_dict().items()}
    loaded = load_checkpoint(form({**content, "model": dict(content["model"])}, path)).state_dict()
    assert loaded.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(loaded[key], value), key
