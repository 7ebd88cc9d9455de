"""States that are hostile or damaged are refused; what was written is read back as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.stored_tensor import StoredTensor
from sparse_detr_deploy.training.run_state import read_state, write_state

CPU = torch.device("cpu")
CONFIG: dict[str, Any] = {name: name for name in ("model", "scenes", "dataset", "seed", "saliency", "backbone_weights")}


def test_a_state_is_read_back_as_it_was(tmp_path: Path) -> None:
    network = torch.nn.BatchNorm2d(3)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.rand(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    state: dict[str, Any] = {
        "config": CONFIG,
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "seconds": 1.5,
        "step": 3,
        "phase": "training",
        "images": 48,
        "views": [torch.arange(12.0).view(3, 4).T, torch.arange(4)[1:3]],
        "none": None,
        "empty": torch.empty(0, 3),
    }
    write_state(tmp_path / "state.pt", state)
    found = read_state(tmp_path / "state.pt", CONFIG, CPU)
    assert found.pop("config") == state.pop("config")
    tensors = [found.pop(name) for name in ("views", "empty")], [state.pop(name) for name in ("views", "empty")]
    torch.testing.assert_close(*tensors, rtol=0, atol=0)
    torch.testing.assert_close(found.pop("model"), dict(state.pop("model")), rtol=0, atol=0)
    torch.testing.assert_close(found["optimizer"]["state"], state["optimizer"]["state"], rtol=0, atol=0)
    assert found["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    optimizer.load_state_dict(found["optimizer"])
    assert (found["seconds"], found["step"], found["none"]) == (1.5, 3, None)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    torch.save({"config": CONFIG, "model": {"weight": torch.zeros(1).expand(10**11)}}, path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def deep(path: Path) -> None:
    value: list[Any] = []
    for _ in range(200):
        value = [value]
    torch.save({"config": CONFIG, "model": value}, path)


def test_the_work_grows_with_the_number_of_tensors_and_not_with_its_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 16 MB may hold 100,000 tensors."""
    storage, counted = torch.arange(300.0), []
    real = StoredTensor.nbytes.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(StoredTensor, "nbytes", property(lambda self: counted.append(self) or real(self)))
    state: dict[str, Any] = {"config": CONFIG, "seconds": 1.5, "step": 3, "phase": "training", "images": 48}
    write_state(tmp_path / "state.pt", {**state, "views": [storage[index : index + 1] for index in range(300)]})
    read_state(tmp_path / "state.pt", CONFIG, CPU)
    assert len(counted) == 300


@pytest.mark.parametrize("write", [fifo, endless, huge, deep], ids=lambda write: write.__name__)
def test_a_hostile_state_is_refused(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "state.pt")
    with pytest.raises(InputError, match="damaged"):
        read_state(tmp_path / "state.pt", CONFIG, CPU)
