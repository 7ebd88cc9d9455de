"""Several ways to compute one thing: each checked first, then all timed in turn, and set against the first of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sparse_detr_deploy.errors import SparseDetrError, VerificationError

from .timing import REPLAYS, WARM_UP, Call, Stopwatch, interleave

OURS = "ours"
LONGEST_REASON = 500
Check = Callable[[Tensor], float]


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way: ``runs`` are calls on one input set each, ``result`` is what the first of them gave."""

    runs: Sequence[Call]
    result: Callable[[], Tensor]
    tolerance: float  # the greatest error that still counts as the same function
    output: Tensor | None = None  # is overwritten before the check, so that a launch that does nothing shows
    prepare: Sequence[Call] = ()  # bringing our inputs into its form
    note: str = ""


def compare(
    contenders: Mapping[str, Contender | str],
    check: Check,
    stopwatch: Stopwatch,
    *,
    rounds: int = REPLAYS,
    warm_up: int = WARM_UP,
) -> dict[str, Any]:
    """Timings in µs of ``ours`` and, under ``peers``, of the others with their ratios to it.

    A text in place of a contender is why it is left out. One that raises or is wrong is left out with that reason.

    Returns:
        ``us``, ``noise_us``, ``error`` of ours; for each peer those, ``ratio`` (peer over ours), and with preparation
        ``prepare_us`` and ``ratio_prepared``; or ``left_out``.

    Raises:
        VerificationError: ours is wrong; what else ours raises passes through.
    """
    peers: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], float]] = {}
    errors: dict[str, float] = {}
    for name, contender in contenders.items():
        if isinstance(contender, str):
            peers[name] = {"left_out": contender}
            continue
        try:
            error = _check(contender, check)
            if not error <= contender.tolerance:  # NaN is not
                raise VerificationError(f"wrong result: error {error:.2g} where {contender.tolerance:.2g} is allowed")
            stopwatches = {name: stopwatch(contender.runs)}
            if contender.prepare:
                stopwatches[_preparation(name)] = stopwatch(contender.prepare)
        except (SparseDetrError, RuntimeError) as why:  # the latter are torch's, for a call that cannot be captured too
            if name == OURS:
                raise
            peers[name] = {"left_out": str(why)[:LONGEST_REASON]}
            continue
        errors[name] = error
        runs.update(stopwatches)
    timings = interleave(runs, rounds=rounds, warm_up=warm_up)
    own = timings[OURS]
    for name, contender in contenders.items():
        if name == OURS or name not in errors or isinstance(contender, str):
            continue
        timing = timings[name]
        peers[name] = {**dataclasses.asdict(timing), "error": errors[name], "ratio": timing.us / own.us}
        if contender.prepare:
            prepared = timings[_preparation(name)].us
            peers[name].update(prepare_us=prepared, ratio_prepared=(timing.us + prepared) / own.us)
        if contender.note:
            peers[name]["note"] = contender.note
    return {**dataclasses.asdict(own), "error": errors[OURS], "peers": peers}


def _check(contender: Contender, check: Check) -> float:
    if contender.output is not None:
        contender.output.fill_(math.nan if contender.output.is_floating_point() else -1)
    contender.runs[0]()
    return check(contender.result())


def _preparation(name: str) -> str:
    return f"{name}: preparation"
