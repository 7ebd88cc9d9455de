"""Each test is run by one command of the Makefile, and by no second one."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_combination_of_markers_has_one_command() -> None:
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\nmarkers = [")[1].split("]")[0]
    markers = re.findall(r'^    "(\w+): ', listed, re.MULTILINE)
    assert "network" in markers
    commands = dict(
        re.findall(r"^([\w-]+): .*\n\t\$\(PYTEST\).* -m \"(.*?)\"", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    assert set(commands) == {"test", "test-slow", "test-network", "test-gpu", "fuzz"}
    for chosen in itertools.product((False, True), repeat=len(markers)):
        marked = dict(zip(markers, chosen, strict=True))
        takers = [name for name, text in commands.items() if eval(text, {"__builtins__": {}}, marked)]
        assert len(takers) == 1, (marked, takers)
        elsewhere = any(value for name, value in marked.items() if name != "committed")  # says what, not where
        assert (takers != ["test"]) == elsewhere
