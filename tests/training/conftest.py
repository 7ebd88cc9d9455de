"""A run of a few steps on tiny scenes."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sparse_detr_deploy.training.config import TrainingConfig, config_from

MODEL = {
    "backbone": "thin-resnet18",
    "num_classes": 10,
    "num_queries": 12,
    "hidden_dim": 32,
    "nheads": 4,
    "enc_layers": 2,
    "dec_layers": 2,
    "dim_feedforward": 32,
    "with_box_refine": True,
    "two_stage": True,
    "eff_query_init": True,
    "eff_specific_head": True,
    "use_enc_aux_loss": True,
    "rho": 0.3,
}


def tiny_values(**changes: Any) -> dict[str, Any]:
    """Content of a TOML file; ``changes`` replace whole sections or single top-level keys."""
    phase = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "warm_up": 1, "train_images": 8}
    values: dict[str, Any] = {
        "model": dict(MODEL),
        "scenes": {"height": 96, "width": 96, "objects": [1, 3], "sizes": [12, 48]},
        "pretraining": dict(phase),
        "training": dict(phase, steps=3),
        "val_images": 2,
        "evaluate_every": 3,
        "checkpoint_every": 100,  # and at the end of each phase; writing one takes longer than a step
        "log_every": 1,
    }
    return values | changes


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these are no faster on two, and on a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of :func:`launch` come out of one server that has imported torch, once a session, in the place of an
    interpreter each (``tests/training/test_parallel.py`` has those)."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["sparse_detr_deploy.training.trainer"])
    start = functools.partial(torch.multiprocessing.start_processes, start_method="forkserver")
    monkeypatch.setattr(torch.multiprocessing, "spawn", start)


@pytest.fixture
def tiny_config() -> TrainingConfig:
    return config_from(tiny_values())
