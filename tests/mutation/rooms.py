"""Which sources are mutated, and which tests should find out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.mutation.toml_file import read_toml

ROOMS = Path(__file__).parent / "rooms.toml"


@dataclasses.dataclass(frozen=True)
class Room:
    """A room, and for each of its files the arguments for pytest: options, and files in the order in which they run."""

    name: str
    modules: dict[str, tuple[str, ...]]


def read_rooms(root: Path, path: Path = ROOMS) -> list[Room]:
    """The rooms of a file. Raises ``ValueError`` where a module is not there, or no test holds it."""
    found = []
    for entry in read_toml(path)["room"]:
        modules = {file: _tests(root, patterns) for file, patterns in entry["modules"].items()}
        missing = [file for file, tests in modules.items() if not tests or not (root / file).is_file()]
        if missing:
            raise ValueError(f"{path.name}: no such file, or no test of {', '.join(missing)}")
        found.append(Room(entry["name"], modules))
    return found


def _tests(root: Path, patterns: list[str]) -> tuple[str, ...]:
    options = [pattern for pattern in patterns if pattern.startswith("-")]
    found = (path for pattern in patterns if pattern not in options for path in sorted(root.glob(pattern)))
    files = dict.fromkeys(path.relative_to(root).as_posix() for path in found)
    return (*options, *files) if files else ()
