"""The table of a sample, for programs and for people."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy.export.publish import publish
from tests.mutation.sample import Tried

ENOUGH = 0.9  # of the mutants that are not equivalent, caught
_COLUMNS = ("caught", "survived", "left", "equivalent", "timed out")


@dataclasses.dataclass(frozen=True)
class Row:
    """Counts of a room, or of all."""

    room: str
    counts: dict[str, int]
    cpu_seconds: float

    @property
    def mutants(self) -> int:
        return sum(self.counts.values())

    @property
    def rate(self) -> float | None:
        """Caught, a hang included, of those that are not equivalent."""
        real = self.mutants - self.counts["equivalent"]
        return (self.counts["caught"] + self.counts["timed out"]) / real if real else None


def rows(found: Sequence[Tried]) -> list[Row]:
    """A row for each room, and one of all."""
    rooms = list(dict.fromkeys(tried.room for tried in found))
    return [_row(room, [tried for tried in found if tried.room == room]) for room in rooms] + [_row("all", found)]


def markdown(found: Sequence[Tried], about: dict[str, Any]) -> str:
    """The table, the survivors, and what it was made with."""
    lines = ["# Mutants", "", "| room | mutants | " + " | ".join(_COLUMNS) + " | rate | CPU s |"]
    lines.append("|---" * (len(_COLUMNS) + 4) + "|")
    for row in rows(found):
        rate = "" if row.rate is None else f"{row.rate:.0%}"
        cells = [row.room, row.mutants, *(row.counts[column] for column in _COLUMNS), rate, f"{row.cpu_seconds:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    environment = about["environment"]
    lines += [
        "",
        f"Seed {about['seed']}, commit {environment['git_commit']}, {about['seconds']:.0f} s with {about['jobs']} at a time"
        f" on {environment['cores_usable']} cores ({environment['cpu']}), Python {environment['python']}.",
        'Rate: caught or timed out, of those that are not equivalent. Again: `make mutants ARGS="--seed '
        f'{about["seed"]} --count {about["count"]}"`.',
    ]
    for title, kinds in (("Survived", ("survived",)), ("Known to survive", ("left", "equivalent"))):
        chosen = [tried for tried in found if tried.outcome in kinds]
        if chosen:
            lines += ["", f"## {title}", ""]
        for tried in chosen:
            reason = f"{tried.known.kind}: {tried.known.reason}" if tried.known else "no reason is known"
            lines += [f"- {tried.mutant.file}:{tried.mutant.line} — {reason}", "", "```diff"]
            lines += [*str(tried.mutant).splitlines()[1:], "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def publish_report(found: Sequence[Tried], about: dict[str, Any], folder: Path) -> None:
    """Write ``mutants.json`` and ``mutants.md``, each whole or not at all."""
    table = [{**dataclasses.asdict(row), "mutants": row.mutants, "rate": row.rate} for row in rows(found)]
    document = {**about, "rooms": table, "mutants": [_entry(tried) for tried in found]}
    texts = {
        "mutants.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n",
        "mutants.md": markdown(found, about),
    }
    for name, text in texts.items():
        with publish(folder / name, overwrite=True) as path:
            path.write_text(text, encoding="utf-8")


def _row(room: str, found: Sequence[Tried]) -> Row:
    counts = Counter(tried.outcome for tried in found)
    return Row(
        room,
        {column: counts[column] for column in _COLUMNS},
        round(sum(tried.trial.cpu_seconds for tried in found if tried.trial), 1),
    )


def _entry(tried: Tried) -> dict[str, Any]:
    mutant = {field: getattr(tried.mutant, field) for field in ("file", "line", "operator", "old", "new")}
    seconds = None if tried.trial is None else round(tried.trial.seconds, 2)
    return {"room": tried.room, **mutant, "outcome": tried.outcome, "seconds": seconds}
