"""Faults that were planted by hand, each with the tests that were written against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.mutation.toml_file import read_toml

FAULTS = Path(__file__).parent / "faults"
_FIELDS = {"name", "file", "old", "new", "edit", "tests", "build"}


@dataclasses.dataclass(frozen=True)
class Edit:
    """One text of a file is replaced by another."""

    file: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True)
class Fault:
    """Edits that together are one fault, and the arguments for pytest that must fail with it.

    With ``native`` the C++ parts are built first.
    """

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    native: bool = False

    def sources(self, root: Path) -> dict[str, str]:
        """The files with the fault planted. Raises ``ValueError`` where an old text does not occur exactly once."""
        found: dict[str, str] = {}
        for edit in self.edits:
            before = found.get(edit.file) or (root / edit.file).read_text(encoding="utf-8")
            if before.count(edit.old) != 1:
                raise ValueError(f"{self.name!r}: {before.count(edit.old)} times in {edit.file}: {edit.old!r}")
            found[edit.file] = before.replace(edit.old, edit.new)
        return found


def read_faults(folder: Path = FAULTS) -> list[Fault]:
    """All faults of the files ``*.toml``. Raises ``ValueError`` where an entry is not complete."""
    return [
        _fault(entry, path.name) for path in sorted(folder.glob("*.toml")) for entry in read_toml(path).get("fault", [])
    ]


def _fault(entry: Mapping[str, Any], file: str) -> Fault:
    name = entry.get("name")
    if entry.keys() - _FIELDS or not name or not entry.get("tests") or entry.get("build", "native") != "native":
        raise ValueError(f"{file}: a fault needs a name, tests and edits, and nothing else: {dict(entry)}")
    try:
        edits = tuple(Edit(**values) for values in entry.get("edit") or [_one_edit(entry)])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: the fault {name!r} needs file, old and new: {error}") from None
    if any(edit.old == edit.new for edit in edits):
        raise ValueError(f"{file}: the fault {name!r} changes nothing")
    return Fault(name, edits, tuple(entry["tests"]), "build" in entry)


def _one_edit(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {field: entry[field] for field in ("file", "old", "new")}
