"""The folder of a training run: one run at a time, and nothing of somebody else's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export.publish import check_output, reports_write_errors
from sparse_detr_deploy.process_lock import process_lock
from sparse_detr_deploy.training.run_log import RunLog

STATE, LOG, CHECKPOINT = "state.pt", "log.jsonl", "checkpoint.pth"
LOCK = ".sparse-detr-train.lock"  # of a run that goes; a killed one leaves it, which marks the folder as ours


@contextlib.contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Have ``folder`` for one run; it is made where it is not there.

    Raises:
        OutputError: it cannot be written to, holds files that no run wrote, or another run goes on in it.
    """

    def refuse(holder: str) -> None:
        raise OutputError(f"{folder} is the folder of another run, {holder}: wait for it, or give another --output")

    for name in (STATE, LOG, CHECKPOINT):
        check_output(folder / name, overwrite=True)
    check_ours(folder)
    with reports_write_errors(folder / LOCK):
        lock = contextlib.ExitStack()
        lock.enter_context(process_lock(folder / LOCK, refuse))
    with lock:
        yield


def check_ours(folder: Path) -> None:
    """Raise :class:`OutputError` where ``folder`` holds something, but nothing that shows that a run wrote it."""
    with reports_write_errors(folder):
        entries = sorted(path.name for path in folder.iterdir())
    if not entries or STATE in entries or LOCK in entries:
        return
    if entries == [LOG] and RunLog(folder / LOG).entries():  # killed before its first state
        return
    foreign = next((name for name in entries if name != LOG), LOG)
    raise OutputError(
        f"{folder} holds {foreign}, but no {STATE}, so it is not the folder of a training run: give an empty one as --output"
    )
