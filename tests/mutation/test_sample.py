"""From the survivors that are known to the table, on trials that are made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.report import markdown, publish_report, rows
from tests.mutation.rooms import Room
from tests.mutation.sample import Tried, draw_sample, try_sample
from tests.mutation.survivors import Survivor, find_survivor, read_survivors
from tests.mutation.trial import Outcome, Trial

ROOMS = [Room("one", {"a.py": ("test_a.py",)}), Room("two", {"b.py": ("test_b.py",), "c.py": ("test_b.py",)})]
KNOWN = [Survivor("b.py", "    x = 3", "    x = 4", "equivalent", "x is not read")]
KNOWN += [Survivor("b.py", "    y = 3", "    y = 4", "left", "a colour")]
ABOUT: dict[str, Any] = {"seed": 1, "count": 9, "jobs": 2, "seconds": 3.0}
ABOUT["environment"] = {"git_commit": "abc", "cores_usable": 2, "cpu": "a CPU", "python": "3.11"}
OUTCOMES = {"1": Outcome.CAUGHT, "2": Outcome.SURVIVED, "3": Outcome.TIMED_OUT}


def mutant(file: str, old: str, new: str) -> Mutant:
    return Mutant(file, 7, "NumberReplacer", old, new, f"code {new[-1]}")


class FakeBench:
    """Tells by the last letter of the source what becomes of it."""

    def __init__(self) -> None:
        self.tests: list[tuple[str, ...]] = []

    def try_clean(self, tests: tuple[str, ...]) -> float:
        self.tests.append(tests)
        return 1.0

    def try_fault(self, sources: dict[str, str], tests: tuple[str, ...]) -> Trial:
        (code,) = sources.values()
        return Trial(OUTCOMES[code[-1]], 2.0, 1.5, "")


class FakeCrew:
    def __init__(self) -> None:
        self.bench = FakeBench()

    def map(self, work: Callable[[Any, Any], Any], tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for task in reversed(list(tasks)):
            # the real one calls a method of Bench
            yield task, self.bench.try_clean(task) if isinstance(task, tuple) else work(self.bench, task)


@pytest.fixture
def crew() -> FakeCrew:
    return FakeCrew()


@pytest.fixture
def found(crew: FakeCrew) -> list[Tried]:
    mutants = [mutant("a.py", "v = 0", f"v = {last}") for last in "1123"]
    mutants += [mutant("b.py", "x = 3", "x = 4"), mutant("b.py", "y = 3", "y = 4"), mutant("c.py", "x = 0", "x = 2")]
    return try_sample(mutants, ROOMS, KNOWN, crew)  # type: ignore[arg-type]


def test_outcomes(found: list[Tried], crew: FakeCrew) -> None:
    outcomes = [tried.outcome for tried in found]
    assert outcomes == ["caught", "caught", "survived", "timed out", "equivalent", "left", "survived"]
    marked = ("-m", "not slow and not gpu and not fuzz and not network")
    assert sorted(crew.bench.tests) == [(*marked, "test_a.py"), (*marked, "test_b.py")]


def test_table(found: list[Tried]) -> None:
    one, two, both = rows(found)
    assert (one.room, one.mutants, one.rate, one.cpu_seconds) == ("one", 4, 0.75, 6.0)
    assert (two.room, two.mutants, two.rate) == ("two", 3, 0.0)
    assert both.counts == {"caught": 2, "survived": 2, "left": 1, "equivalent": 1, "timed out": 1}
    assert both.rate == 0.5
    assert rows([])[0].rate is None


def test_published(found: list[Tried], tmp_path: Path) -> None:
    publish_report(found, ABOUT, tmp_path / "new")
    publish_report(found, ABOUT, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mutants.json", "mutants.md"]
    document = json.loads((tmp_path / "new" / "mutants.json").read_text())
    assert document["seed"] == 1
    assert [row["mutants"] for row in document["rooms"]] == [4, 3, 7]
    assert document["mutants"][2] == {
        "room": "one",
        "file": "a.py",
        "line": 7,
        "operator": "NumberReplacer",
        "old": "v = 0",
        "new": "v = 2",
        "outcome": "survived",
        "seconds": 2.0,
    }
    text = (tmp_path / "new" / "mutants.md").read_text()
    assert text == markdown(found, ABOUT)
    assert "| all | 7 | 2 | 2 | 1 | 1 | 1 | 50% | 8 |" in text
    assert "- b.py:7 — equivalent: x is not read\n\n```diff\n-x = 3\n+x = 4\n```" in text
    assert text.count("no reason is known") == 2


def test_sample_of_rooms(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.py").write_text(f"{name} = 1 < 2\n")
    assert {one.file for one in draw_sample(tmp_path, ROOMS, 9, 0)} == {"a.py", "b.py", "c.py"}
    assert [one.file for one in draw_sample(tmp_path, ROOMS[:1], 9, 0)] == ["a.py"] * 3


def test_survivors_are_known_by_their_lines() -> None:
    same = mutant("b.py", "        x = 3", "        x = 4")  # indented otherwise
    assert find_survivor(same, KNOWN) is KNOWN[0]
    for other in (("c.py", "x = 3", "x = 4"), ("b.py", "x = 2", "x = 4"), ("b.py", "x = 3", "x = 5")):
        assert find_survivor(mutant(*other), KNOWN) is None


def test_stale_survivors(tmp_path: Path) -> None:
    two_lines = Survivor("b.py", "f(\n    x)", "g(\n    x)", "left", "r")
    assert KNOWN[0].is_stale(tmp_path)
    (tmp_path / "b.py").write_text("def g():\n  x = 3\n  f(\n  x)\n")
    assert not KNOWN[0].is_stale(tmp_path)
    assert not two_lines.is_stale(tmp_path)
    (tmp_path / "b.py").write_text("x = 33\nf(\n")
    assert KNOWN[0].is_stale(tmp_path)
    assert two_lines.is_stale(tmp_path)


def test_the_committed_survivors_can_be_read() -> None:
    known = read_survivors()
    assert len({(one.file, one.old, one.new) for one in known}) == len(known)


@pytest.mark.parametrize("change", ['kind = "dull"', 'reason = " "', 'colour = "red"'])
def test_an_incomplete_survivor(change: str, tmp_path: Path) -> None:
    lines = {"file": '"b.py"', "old": '"x"', "new": '"y"', "kind": '"left"', "reason": '"r"'}
    key, value = change.split(" = ")
    text = "".join(f"{key} = {value}\n" for key, value in {**lines, key: value}.items())
    (tmp_path / "s.toml").write_text(f"[[survivor]]\n{text}")
    with pytest.raises(ValueError, match="s.toml"):
        read_survivors(tmp_path / "s.toml")
