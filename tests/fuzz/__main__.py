"""``python -m tests.fuzz [TARGET [CASE]]``: all targets, one, or one case with its traceback."""

from __future__ import annotations

import sys
import time

from tests.fuzz.harness import CASES_OF_WEIGHT_ONE, bounded_memory, run, work_folder
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Print counts and failures; exit status 1 where there are failures."""
    names = sys.argv[1:2] or list(TARGETS)
    if names[0] not in TARGETS:
        sys.exit(f"{__doc__}\nTargets: {', '.join(TARGETS)}")
    failed, total = False, 0
    with work_folder() as folder, bounded_memory():
        for name in names:
            target = TARGETS[name]
            indices = range(target.weight * CASES_OF_WEIGHT_ONE)
            if len(sys.argv) > 2:
                indices = range(int(sys.argv[2]), int(sys.argv[2]) + 1)
            started = time.perf_counter()
            outcome = run(target, indices, folder)
            seconds = time.perf_counter() - started
            total += outcome.cases
            print(f"{name}: {outcome.cases} cases, {outcome.accepted} accepted, {seconds:.1f} s", flush=True)
            for failure in outcome.failures:
                print(failure.trace if len(sys.argv) > 2 else f"  {failure}")
            failed = failed or bool(outcome.failures)
    print(f"{total} cases in all")
    sys.exit(failed)


if __name__ == "__main__":
    main()
