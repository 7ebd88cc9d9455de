"""The listed faults can be planted, and incomplete entries are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.faults import Edit, Fault, read_faults

ROOT = Path(__file__).parents[2]


def test_every_listed_fault_can_be_planted() -> None:
    faults = read_faults()
    for fault in faults:
        assert fault.sources(ROOT).keys() == {edit.file for edit in fault.edits}
        files = {test.partition("::")[0] for test in fault.tests if not test.startswith("-")}
        assert files, fault.name
        assert [file for file in files if not (ROOT / file).exists()] == [], fault.name
    names = [fault.name for fault in faults]
    assert sorted(set(names)) == sorted(names)


def test_an_entry(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    (tmp_path / "one.toml").write_text(
        '[[fault]]\nname = "x"\nfile = "a.py"\nold = "x = 1"\nnew = "x = 2"\ntests = ["t.py::test"]\nbuild = "native"\n'
        '[[fault]]\nname = "both"\ntests = ["t.py"]\n'
        '[[fault.edit]]\nfile = "a.py"\nold = "x = 1"\nnew = "x = 3"\n'
        '[[fault.edit]]\nfile = "a.py"\nold = "y = 1"\nnew = "y = 4"\n'
    )
    first, both = read_faults(tmp_path)
    assert first == Fault("x", (Edit("a.py", "x = 1", "x = 2"),), ("t.py::test",), native=True)
    assert first.sources(tmp_path) == {"a.py": "x = 2\ny = 1\n"}
    assert both.sources(tmp_path) == {"a.py": "x = 3\ny = 4\n"}
    assert not both.native


@pytest.mark.parametrize("times", [0, 2])
def test_a_text_that_does_not_occur_once(times: int, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * times)
    with pytest.raises(ValueError, match=f"'f': {times} times in a.py"):
        Fault("f", (Edit("a.py", "x = 1", "x = 2"),), ("t.py",)).sources(tmp_path)


@pytest.mark.parametrize(
    "change",
    ['name = ""', "tests = []", 'old = "x"\nnew = "x"', 'build = "wheel"', 'colour = "red"', 'name = "f"\n#file = ""'],
)
def test_an_incomplete_entry(change: str, tmp_path: Path) -> None:
    values = {"name": '"f"', "file": '"a.py"', "old": '"x"', "new": '"y"', "tests": '["t.py"]'}
    for line in change.splitlines():
        key, _, value = line.partition(" = ")
        values = {**values, key: value} if not key.startswith("#") else {**values, key[1:]: ""}
    text = "".join(f"{key} = {value}\n" for key, value in values.items() if value)
    (tmp_path / "a.toml").write_text(f"[[fault]]\n{text}")
    with pytest.raises(ValueError, match="a.toml"):
        read_faults(tmp_path)
