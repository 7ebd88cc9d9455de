"""The comparison: every entry in a process of its own, those of one keep ratio alive at once, one call each per round."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sparse_detr_deploy.benchmarks.measuring import rotations
from sparse_detr_deploy.benchmarks.peers.entries import FLOOR, TRANSFORMERS, Entry
from sparse_detr_deploy.benchmarks.peers.preparing import Preparation, in_child
from sparse_detr_deploy.benchmarks.peers.settings import Settings
from sparse_detr_deploy.benchmarks.peers.worker import Worker
from sparse_detr_deploy.benchmarks.timing import Stability, Statistics, judge, summarise
from sparse_detr_deploy.errors import BackendError, VerificationError

_LEAST_FREE_MIB = 1024
# idle threads of the call before spin for a while
_PAUSE_S = 0.05


@dataclasses.dataclass
class Row:
    """One entry with what was measured.

    Attributes:
        entry: what ran.
        group: keep ratio of the entries that it was timed with; ``None`` for the dense ones.
        peak_memory_mib: of its process.
        load_s: seconds that loading took.
        samples_ms: milliseconds of its turns by round.
        agreement: with our module, see :func:`~sparse_detr_deploy.benchmarks.peers.agreement.agreement_of`; ``None``
            where there is nothing to compare (other weights, no detections).
    """

    entry: Entry
    group: float | None
    peak_memory_mib: float
    load_s: float
    samples_ms: dict[int, float] = dataclasses.field(default_factory=dict)
    agreement: dict[str, Any] | None = None

    @property
    def statistics(self) -> Statistics:
        """Of all its turns."""
        return summarise(list(self.samples_ms.values()))

    @property
    def stability(self) -> Stability:
        """Of all its turns."""
        return judge(list(self.samples_ms.values()))

    def ratio_to(self, other: Row) -> float:
        """Median over the rounds of both: how many times as long as ``other`` this one takes."""
        rounds = sorted(self.samples_ms.keys() & other.samples_ms.keys())
        return float(np.median([self.samples_ms[index] / other.samples_ms[index] for index in rounds]))


def check_agreement(settings: Settings, prepared: Preparation, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Compare the detections of every entry that has our weights with those of our module; results by the entry's title.

    Raises:
        VerificationError: one detects something else, so that its time would tell nothing.
    """
    from sparse_detr_deploy.benchmarks.peers.agreement import agreement_of

    results: dict[str, dict[str, Any]] = {}
    for rho in settings.all_rhos:
        entries = [
            entry for entry in prepared.entries if entry.rho == rho and entry.family not in (FLOOR, TRANSFORMERS)
        ]
        say(f"comparing detections, {'dense' if rho is None else f'ρ {rho:g}'}")
        found = in_child(agreement_of, entries, settings.seed, rho, prepared.image, settings.threads, settings.original)
        for entry, result in zip(entries, found, strict=True):
            if result and not result["agrees"]:
                raise VerificationError(
                    f"{entry.title} does not detect what our module detects given the same selection: score differs by "
                    f"{result['score']:.2e}, box by {result['box_pixels']:.3f} pixels"
                )
            results[entry.title] = result
    return results


def profile_ours(settings: Settings, prepared: Preparation, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Operator times of ours with fused kernels, by keep ratio."""
    from sparse_detr_deploy.benchmarks.peers.profiling import profile

    results = []
    for entry in prepared.entries:
        if entry.is_ours_fused:
            say(f"profiling {entry.title}")
            path = Path(entry.options["path"])
            results.append({"rho": entry.rho, **in_child(profile, path, prepared.image, settings.threads)})
    return results


def measure(settings: Settings, prepared: Preparation, say: Callable[[str], None]) -> Iterator[list[Row]]:
    """Time the entries of one keep ratio after the other, within each round-robin, all loaded; the rows of each.

    Our dense artefact takes part in every group, so that what sparsity gains is measured side by side as well.

    Raises:
        BackendError: memory runs short, or a process ended.
    """
    for rho in settings.all_rhos:
        others = (
            [] if rho is None else [entry for entry in prepared.entries if entry.is_ours_fused and entry.rho is None]
        )
        group = [entry for entry in prepared.entries if entry.rho == rho]
        yield _measure_group(rho, group + others, settings, prepared, say)


def _measure_group(
    rho: float | None, entries: list[Entry], settings: Settings, prepared: Preparation, say: Callable[[str], None]
) -> list[Row]:
    """Load the entries, then time them round-robin. One that does not load goes to ``prepared.left_out``."""
    with contextlib.ExitStack() as stack:
        rows, workers = [], []
        for entry in entries:
            say(f"loading {entry.title}")
            try:
                worker = Worker(entry, prepared.image, settings.threads, settings.warmup)
            except BackendError as error:
                prepared.left_out.append(str(error))
                continue
            workers.append(stack.enter_context(worker))
            rows.append(Row(entry, rho, worker.peak_memory_mib, worker.load_s))
            free = psutil.virtual_memory().available / 2**20
            if free < _LEAST_FREE_MIB:
                raise BackendError(
                    f"only {free:.0f} MiB of memory are left with {len(workers)} of {len(entries)} entries loaded: "
                    "leave eager PyTorch out (--eager-rounds 0) or compare at a smaller --size"
                )
        stride = max(1, settings.rounds // max(1, settings.eager_rounds))
        for index, order in enumerate(rotations(len(rows), settings.rounds)):
            say(f"{'dense' if rho is None else f'ρ {rho:g}'}, round {index + 1} of {settings.rounds}")
            for position in order:
                row = rows[position]
                if row.entry.eager and (index % stride or index // stride >= settings.eager_rounds):
                    continue
                time.sleep(_PAUSE_S)
                row.samples_ms[index] = workers[position].take_turn()
    return rows
