"""Several processes on one machine that share each batch and average their gradients."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessException

from sparse_detr_deploy.child_processes import spawning
from sparse_detr_deploy.errors import SparseDetrError


def launch(workers: int, function: Callable[..., None], *arguments: Any) -> None:
    """Run ``function(rank, workers, *arguments)`` in ``workers`` processes; in this one where it is one alone.

    An error of the toolkit's own in one of them ends all and is raised here.
    """
    if workers == 1:
        function(0, 1, *arguments)
        return
    level = logging.getLogger().getEffectiveLevel()
    with tempfile.TemporaryDirectory() as folder, spawning():
        errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
        address = f"file://{folder}/rendezvous"
        try:
            torch.multiprocessing.spawn(  # type: ignore[attr-defined]
                _worker, (workers, address, level, errors, function, arguments), workers
            )
        except ProcessException:
            if errors.empty():
                raise
            raise errors.get() from None


def _worker(
    rank: int,
    workers: int,
    address: str,
    level: int,
    errors: Any,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    logging.basicConfig(level=level, format="%(message)s")
    torch.set_num_threads(1)
    follow_parent()
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=workers)
    try:
        function(rank, workers, *arguments)
        dist.barrier()
    except SparseDetrError as error:
        errors.put(error)
        raise
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # all is written and everybody is done; the interpreter's own end now and then aborts in threads of the group
    os._exit(0)


def follow_parent() -> None:
    """End this process soon after the one that started it was killed, lest two runs write to one folder."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def average_gradients(parameters: Iterable[nn.Parameter], workers: int) -> None:
    """Replace every gradient by its mean over the processes (a parameter without one has zero)."""
    if workers == 1:
        return
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([parameter.grad.flatten() for parameter in learning if parameter.grad is not None])
    dist.all_reduce(flat)
    flat /= workers
    for parameter, part in zip(learning, flat.split([parameter.numel() for parameter in learning]), strict=True):
        assert parameter.grad is not None
        # into the gradient that is there: the fused optimizer takes parameter and gradient to lie alike in memory,
        # and those of convolutions may be channels-last
        parameter.grad.copy_(part.view_as(parameter))


def mean_over_workers(value: float, workers: int) -> float:
    """Mean of ``value`` over the processes."""
    if workers == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(shared)
    return float(shared) / workers
