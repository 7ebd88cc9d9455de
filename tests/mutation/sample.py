"""A seeded sample of mutants, and what became of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.mutation.crew import Crew
from tests.mutation.mutants import Mutant, draw
from tests.mutation.rooms import Room
from tests.mutation.survivors import Survivor, find_survivor
from tests.mutation.trial import Bench, Outcome, Trial

_MARKED_OUT = ("-m", "not slow and not gpu and not fuzz and not network")  # as in `make test`


@dataclasses.dataclass(frozen=True)
class Tried:
    """A mutant of a room, and its trial: none where it is known to survive."""

    room: str
    mutant: Mutant
    trial: Trial | None
    known: Survivor | None

    @property
    def outcome(self) -> str:
        if self.trial is not None:
            return self.trial.outcome.value
        return self.known.kind if self.known is not None else ""

    @property
    def is_survivor(self) -> bool:
        return self.trial is not None and self.trial.outcome is Outcome.SURVIVED


def draw_sample(root: Path, rooms: Sequence[Room], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants of all rooms."""
    files = [file for room in rooms for file in room.modules]
    return draw({file: (root / file).read_text(encoding="utf-8") for file in files}, count, seed)


def try_sample(
    mutants: Sequence[Mutant],
    rooms: Sequence[Room],
    known: Sequence[Survivor],
    crew: Crew,
    progress: Callable[[Tried], None] = lambda tried: None,
) -> list[Tried]:
    """Try each mutant that is not known to survive.

    Raises:
        NotClean: tests of a room do not pass as it is.
    """
    room_of = {file: room for room in rooms for file in room.modules}
    tests = {file: (*_MARKED_OUT, *room.modules[file]) for file, room in room_of.items()}
    found = [Tried(room_of[one.file].name, one, None, find_survivor(one, known)) for one in mutants]
    open_ones = [tried for tried in found if tried.known is None]
    # first, so that a red test ends it early
    for _ in crew.map(Bench.try_clean, sorted({tests[tried.mutant.file] for tried in open_ones})):
        pass

    def attempt(bench: Bench, tried: Tried) -> Tried:
        mutant = tried.mutant
        return dataclasses.replace(tried, trial=bench.try_fault({mutant.file: mutant.code}, tests[mutant.file]))

    done = {id(tried): tried for tried in found}
    for tried, result in crew.map(attempt, open_ones):
        progress(result)
        done[id(tried)] = result
    return list(done.values())
