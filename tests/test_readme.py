"""The README is true: its links lead somewhere, its options exist, its numbers are those of the committed results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from sparse_detr_deploy.benchmarks.cli import main as bench
from sparse_detr_deploy.export.cli import main as export
from sparse_detr_deploy.training.cli import main as train

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results" / "cpu"


def table(name: str) -> list[list[str]]:
    body = re.search(rf"<!-- {name} table -->\n(.*?)<!-- /{name} table -->", TEXT, re.DOTALL)
    assert body is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body[1].splitlines()[2:]]


def results(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / name).read_text(encoding="utf-8"))["rows"]
    return rows


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_links(target: str) -> None:
    assert (ROOT / target).exists()


def options_of(command: click.Command) -> set[str]:
    own = {name for parameter in command.params for name in parameter.opts}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*(options_of(other) for other in below))


def test_options() -> None:
    known = options_of(export) | options_of(bench) | options_of(train) | {"--original"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", TEXT)) - {"--backend-config", "--onnx", "--saveEngine"}
    assert len(named) > 15
    assert named <= known, named - known


def test_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"make ([a-z-]+)", TEXT)) <= targets


def test_demo_table() -> None:
    found = table("demo")
    rows = results("demo.json")
    assert len(found) == len(rows)
    for cells, row in zip(found, rows, strict=True):
        times = row["statistics"]["inference"]
        assert cells[:3] == [f"`{row['name']}`", f"{row['rho']:g}", f"{row['kept']} of {row['tokens']}"]
        assert cells[3:6] == [f"{row['gmacs']:.3f}", f"{times['p50_ms']:.1f} ms", f"{times['p90_ms']:.1f} ms"]
        assert cells[6:] == [f"{1000 / times['p50_ms']:.0f}", f"{row['accuracy']['AP']:.3f}"]


def test_peers_table() -> None:
    measured = {
        f"{row['statistics']['p50_ms']:.0f} ({row['peak_memory_mib']:.0f})": row["rho"]
        for row in results("peers.json")
        if row["rho"] == row["group_rho"]
    }
    found = table("peers")
    assert len(found) >= 8
    assert sum(bool(cell) for cells in found for cell in cells[1:]) >= 22
    for cells in found:
        for cell, rho in zip(cells[1:], (0.1, 0.3, None), strict=True):
            assert not cell or measured[cell] == rho
