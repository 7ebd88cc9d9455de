"""Processes that share a batch take the step that one process with the whole batch takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.training.parallel import average_gradients, launch, mean_over_workers
from tests.closeness import assert_close_to_scale


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, bias=False), nn.Flatten(), nn.Linear(8, 2)
    )
    network.unused = nn.Linear(1, 1)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _images() -> torch.Tensor:
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def _steps(rank: int, workers: int, folder: str) -> None:
    """Three optimizer steps on this process's part of the batch; the weights go to a file. Then the second one fails."""
    network = _network()
    body = network[:5]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        body(_images()[rank::workers]).square().mean().backward()
        average_gradients(network.parameters(), workers)
        optimizer.step()
    assert mean_over_workers(float(rank), workers) == (workers - 1) / 2
    torch.save(network.state_dict(), Path(folder) / f"{workers}-{rank}.pt")
    mean_over_workers(0.0, workers)  # both have written
    if rank == 1:
        raise InputError("the second one cannot go on")
    mean_over_workers(0.0, workers)  # the first one waits for it


def test_two_processes_take_the_steps_of_one_and_an_error_of_one_ends_both(
    hostile_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With channels-last convolutions too, whose gradients lie otherwise in memory than a plain tensor."""
    launch(1, _steps, str(tmp_path))
    monkeypatch.chdir(hostile_folder)  # whose modules the processes must not take for Python's
    monkeypatch.setattr(sys, "path", list(filter(None, sys.path)))
    with pytest.raises(InputError, match="^the second one cannot go on$"):
        launch(2, _steps, str(tmp_path))
    assert not (tmp_path / "ran").exists()
    alone, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    start = _network().state_dict()
    for key, value in alone.items():
        if "unused" not in key:
            assert not torch.equal(value, start[key]), key
            assert_close_to_scale(first[key], value, 1e-5, name=key)
        assert torch.equal(first[key], second[key]), key
