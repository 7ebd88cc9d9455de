"""``python -m tests.mutation``: plants the listed faults and a seeded sample of mutants in copies of the tree."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sparse_detr_deploy.benchmarks.environment import describe_environment, git_commit
from tests.mutation.crew import Crew, crew
from tests.mutation.faults import Fault, read_faults
from tests.mutation.report import ENOUGH, markdown, publish_report, rows
from tests.mutation.rooms import read_rooms
from tests.mutation.sample import Tried, draw_sample, try_sample
from tests.mutation.survivors import read_survivors
from tests.mutation.trial import Bench, NotClean, Outcome

ROOT = Path(__file__).parents[2]
COUNT, SEED = 300, 11


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 where all listed faults and enough mutants are caught, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "faults", "sample"), default="all")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample (%(default)s)")
    parser.add_argument("--count", type=int, default=COUNT, help="mutants of the sample (%(default)s)")
    parser.add_argument("--only", default="", help="rooms, and faults, whose name holds this text")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at a time (%(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "mutants", help="folder of the table")
    parser.add_argument("--list", action="store_true", help="print the sample, and try nothing")
    options = parser.parse_args(arguments)
    if options.list:
        return _list(options)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that the copies are removed
    with crew(ROOT, options.jobs) as hands:
        try:
            faults_caught = options.what == "sample" or _try_faults(options, hands)
            enough = options.what == "faults" or _try_sample(options, hands)
        except NotClean as error:
            print(error, file=sys.stderr)
            return 1
    return 0 if faults_caught and enough else 1


def _list(options: argparse.Namespace) -> int:
    rooms = [room for room in read_rooms(ROOT) if options.only in room.name]
    for mutant in draw_sample(ROOT, rooms, options.count, options.seed):
        print(mutant)
    return 0


def _try_faults(options: argparse.Namespace, hands: Crew) -> bool:
    faults = [fault for fault in read_faults() if options.only in fault.name]
    missed = 0

    def attempt(bench: Bench, fault: Fault) -> Outcome:
        return bench.try_fault(fault.sources(ROOT), fault.tests, fault.native).outcome

    for fault, outcome in hands.map(attempt, faults):
        if outcome is Outcome.SURVIVED:
            missed += 1
            print(f"NOT CAUGHT: {fault.name}: {' '.join(fault.tests)}", flush=True)
        if outcome is Outcome.TIMED_OUT:  # which is caught, but by a test that does not say what is wrong
            print(f"timed out: {fault.name}: {' '.join(fault.tests)}", flush=True)
    print(f"{len(faults)} listed faults, {missed} not caught", flush=True)
    return missed == 0


def _try_sample(options: argparse.Namespace, hands: Crew) -> bool:
    rooms, known = [room for room in read_rooms(ROOT) if options.only in room.name], read_survivors()
    for survivor in known:
        if survivor.is_stale(ROOT):
            print(f"stale, the lines are gone: {survivor.file}: {survivor.old.strip()}")
    mutants = draw_sample(ROOT, rooms, options.count, options.seed)
    print(f"seed {options.seed}: {len(mutants)} mutants of {', '.join(room.name for room in rooms)}", flush=True)
    started, tried = time.monotonic(), 0

    def progress(one: Tried) -> None:
        nonlocal tried
        tried += 1
        if one.is_survivor:
            print(f"[{tried}] survived: {one.mutant}", flush=True)

    found = try_sample(mutants, rooms, known, hands, progress)
    about = {
        "seed": options.seed,
        "count": options.count,
        "jobs": options.jobs,
        "seconds": round(time.monotonic() - started, 1),
        "environment": {
            **describe_environment(),
            "git_commit": git_commit(Path(__file__)),
        },  # of the tree that is copied
    }
    publish_report(found, about, options.output)
    print(markdown(found, about))
    rate = rows(found)[-1].rate
    return rate is None or rate >= ENOUGH


if __name__ == "__main__":
    sys.exit(main())
