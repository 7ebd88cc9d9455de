"""Mutants that no test need catch, each with the reason: known by their file, the old lines and the new ones."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant
from tests.mutation.toml_file import read_toml

SURVIVORS = Path(__file__).parent / "survivors.toml"
KINDS = ("equivalent", "left")


@dataclasses.dataclass(frozen=True)
class Survivor:
    """A mutant that is ``equivalent``, which nobody could tell from the source as it is, or deliberately ``left``."""

    file: str
    old: str
    new: str
    kind: str
    reason: str

    def is_stale(self, root: Path) -> bool:
        """Whether the lines are no more in the file, so that the entry can go."""
        path = root / self.file
        if not path.is_file():
            return True
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        old = [line.strip() for line in self.old.splitlines()]
        return all(lines[start : start + len(old)] != old for start in range(len(lines)))


def read_survivors(path: Path = SURVIVORS) -> list[Survivor]:
    """The known ones. Raises ``ValueError`` where an entry is not complete."""
    return [_survivor(entry, path.name) for entry in read_toml(path).get("survivor", [])]


def find_survivor(mutant: Mutant, known: list[Survivor]) -> Survivor | None:
    """The entry of a mutant."""
    key = (mutant.file, _bare(mutant.old), _bare(mutant.new))
    return next((one for one in known if (one.file, _bare(one.old), _bare(one.new)) == key), None)


def _survivor(entry: Mapping[str, Any], file: str) -> Survivor:
    fields = {field.name for field in dataclasses.fields(Survivor)}
    if entry.keys() != fields or entry["kind"] not in KINDS or not entry["reason"].strip():
        raise ValueError(f"{file}: a survivor needs {', '.join(sorted(fields))}; kind is one of {KINDS}: {dict(entry)}")
    return Survivor(**entry)


def _bare(text: str) -> str:
    """Without the indentation that all its lines share, and spaces at their ends."""
    return "\n".join(line.rstrip() for line in textwrap.dedent(text).strip("\n").splitlines())
