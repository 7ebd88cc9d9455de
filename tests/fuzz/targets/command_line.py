"""Text that options and small files hold."""

from __future__ import annotations

from collections.abc import Callable

from sparse_detr_deploy.benchmarks.compare import parse_share
from sparse_detr_deploy.benchmarks.run_options import parse_contexts
from sparse_detr_deploy.export.class_names import read_class_names
from sparse_detr_deploy.export.engine.plugin_build import parse_architectures
from sparse_detr_deploy.export.spec import parse_batch, parse_rho, parse_size
from tests.fuzz.harness import Case, Target

_PARSERS: tuple[tuple[Callable[[str], object], str], ...] = (
    (parse_size, "800x1066"),
    (parse_batch, "1:4:8"),
    (parse_rho, "0.3"),
    (parse_share, "5%"),
    (parse_contexts, "1,2,4"),
    (parse_architectures, "89,120"),
)
_PIECES = (
    "",
    "0",
    "1",
    "x",
    ":",
    ",",
    "%",
    "-",
    ".",
    "e",
    "²",
    "٣",
    "9" * 5000,
    "inf",
    "nan",
    " ",
    "\0",
    "\n",
    "_",
    "sm",
)


def run_option(case: Case) -> None:
    """A parser of the command line."""
    parse, valid = case.mutator.pick(_PARSERS)
    pieces = list(valid) if case.mutated else []
    for _ in range(case.mutator.random.randint(1, 3)):
        pieces.insert(case.mutator.random.randrange(len(pieces) + 1), case.mutator.pick(_PIECES))
    if case.mutated and case.mutator.chance(0.5):
        del pieces[case.mutator.random.randrange(len(pieces))]
    parse("".join(pieces))


def run_class_names(case: Case) -> None:
    """A file of class names, lines or JSON."""
    mutator = case.mutator
    path = case.folder / mutator.pick(("names.txt", "names.json"))
    names = ["cat", "dog", "größe"]
    if mutator.chance(0.5):
        content = mutator.json(mutator.document(names) if case.mutated else mutator.value()).encode(
            "utf-8", "surrogatepass"
        )
    else:
        content = "\n".join(names).encode()
        content = mutator.data(content) if case.mutated else mutator.noise()
    path.write_bytes(content)
    found = read_class_names(path)
    assert found
    assert all(isinstance(name, str) for name in found)
    "".join(found).encode()  # no lone surrogates: they could not be stored


TARGETS = (Target("option", run_option, 8), Target("class-names", run_class_names, 6))
