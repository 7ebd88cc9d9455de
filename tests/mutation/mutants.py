"""Mutants of a source: each the whole source with one fault planted."""

from __future__ import annotations

import dataclasses
import difflib
import random
from collections import defaultdict

from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator

from tests.mutation.meaning import meaning
from tests.mutation.operators import Node, operators


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A fault in ``file``: its line, the lines that it changes, and the source that holds it."""

    file: str
    line: int
    operator: str
    old: str
    new: str
    code: str = dataclasses.field(repr=False, compare=False)

    def __str__(self) -> str:
        old, new = (
            "\n".join(sign + line for line in text.splitlines()) for sign, text in (("-", self.old), ("+", self.new))
        )
        return f"{self.file}:{self.line} {self.operator}\n{old}\n{new}"


@dataclasses.dataclass(frozen=True)
class Place:
    """Somewhere in ``file`` that faults can be planted: each an operator and the number of its occurrence."""

    file: str
    start: tuple[int, int]
    end: tuple[int, int]
    faults: tuple[tuple[str, int], ...]


def places(file: str, code: str) -> list[Place]:
    """Where ``code`` can be mutated, in the order of the text."""
    found: dict[tuple[tuple[int, int], tuple[int, int]], list[tuple[str, int]]] = defaultdict(list)
    tree = get_ast(code)
    for name, operator in operators().items():
        for occurrence, span in enumerate(_spans(tree, operator)):
            found[span].append((name, occurrence))
    return [Place(file, *span, tuple(faults)) for span, faults in sorted(found.items())]


def draw(sources: dict[str, str], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants, in the order of the files: the places are drawn first, so none has a greater chance because more
    can be planted there, then one fault of each. Fewer where there are not as many places."""
    chance = random.Random(seed)
    left = [place for file, code in sorted(sources.items()) for place in places(file, code)]
    chance.shuffle(left)
    meanings = {file: meaning(code) for file, code in sources.items()}
    drawn: list[Mutant] = []
    for place in left:
        if len(drawn) == count:
            break
        faults = list(place.faults)
        chance.shuffle(faults)
        mutants = (mutant(place, *fault, sources[place.file]) for fault in faults)
        drawn += [found for found in mutants if _differs(found, meanings[place.file])][:1]
    return sorted(drawn, key=lambda mutant: (mutant.file, mutant.line, mutant.operator))


def mutant(place: Place, name: str, occurrence: int, code: str) -> Mutant:
    """The fault ``occurrence`` of the operator ``name``, planted in ``code``."""
    visitor = MutationVisitor(occurrence, operators()[name])
    mutated = visitor.walk(get_ast(code)).get_code()
    before, after = code.splitlines(), mutated.splitlines()
    blocks = difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
    changed = [block for block in blocks if block[0] != "equal"]
    first, last = changed[0] if changed else blocks[0], changed[-1] if changed else blocks[0]
    old, new = before[first[1] : last[2]], after[first[3] : last[4]]
    return Mutant(place.file, place.start[0], name, "\n".join(old), "\n".join(new), mutated)


def _differs(mutant: Mutant, original: str) -> bool:
    try:
        return meaning(mutant.code) != original
    except SyntaxError:  # an operator that does not fit its place, such as a star that is no product
        return False


def _spans(node: Node, operator: Operator) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """In the order in which the library counts occurrences."""
    found = list(operator.mutation_positions(node))
    for child in getattr(node, "children", ()):
        found += _spans(child, operator)
    return found
