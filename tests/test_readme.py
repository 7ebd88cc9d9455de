"""The README is true: its links lead somewhere, its options exist, its numbers are those of the committed results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from sparse_detr_deploy.benchmarks.cli import main as bench
from sparse_detr_deploy.export.cli import main as export
from sparse_detr_deploy.training.cli import main as train
from tests.readme_parts import PARTS, README, RESULTS, ROOT, filled

TEXT = README.read_text(encoding="utf-8")
PROGRAMS = {"sparse-detr-export": export, "sparse-detr-bench": bench, "sparse-detr-train": train}
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line.split("#")[0].strip() for line in SHELL.splitlines() if line.split(" ")[0] in PROGRAMS]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_links(target: str) -> None:
    assert (ROOT / target).exists()


def options_of(command: click.Command) -> set[str]:
    own = {name for parameter in command.params for name in parameter.opts}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*(options_of(other) for other in below))


def test_options() -> None:
    known = options_of(export) | options_of(bench) | options_of(train)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", TEXT))
    assert len(named) > 15
    assert named <= known, named - known


def test_make_targets() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"make ([a-z0-9-]+)", TEXT)) <= targets


@pytest.mark.parametrize("file", PARTS, ids=lambda file: file.parent.name)
def test_measured_parts(file: Path) -> None:
    """Tables and the sentences with numbers are those of the committed results: python -m tests.readme_parts"""
    assert filled(file) == file.read_text(encoding="utf-8")


def test_the_targets_that_are_reached() -> None:
    """What the project promised against the original's naive export: 1.15, 1.2 and 1.25 times as fast."""
    ratios = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))["ratios"]
    for ratio, least in (("ρ 0.1", 1.15), ("ρ 0.3", 1.2), ("dense", 1.25)):
        for other in ("original, ONNX Runtime", "original, ONNX Runtime, our session options"):
            (found,) = (
                entry for entry in ratios if entry["other"] == f"{other}, {ratio}" and entry["ours"].endswith(ratio)
            )
            assert found["speedup_paired"] > least


@pytest.mark.parametrize("line", COMMANDS)
def test_options_are_of_their_command(line: str) -> None:
    program, *words = line.split()
    command: click.Command = PROGRAMS[program]
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    named = {word.split("=")[0] for word in words if word.startswith("--")}
    assert named <= options_of(command), (line, named - options_of(command))
