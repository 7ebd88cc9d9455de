"""A tree of one module and its test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutation.trial import Bench, NotClean, Outcome

TESTS = ["tests/test_area.py"]
AREA = "def area(w, h):\n    return w * h\n"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    root = folder / "root"
    for name in ("package", "elsewhere", "tests"):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").touch()
    (root / "pyproject.toml").write_text('[tool.setuptools.package-dir]\n"package.part" = "elsewhere"\n')
    (root / "elsewhere" / "area.py").write_text(AREA)
    (root / "tests" / "test_area.py").write_text(
        "from package.part.area import area\n\n\ndef test_area():\n    assert area(3, 2) == 6\n"
    )
    (root / "tests" / "test_wrong.py").write_text("def test_wrong():\n    assert not 1\n")
    mutation = root / "tests" / "mutation"
    mutation.mkdir()
    (mutation / "__init__.py").touch()
    (mutation / "worker.py").write_bytes((Path(__file__).parent / "worker.py").read_bytes())
    with Bench(root, folder / "bench", preloaded=("pytest", "hypothesis", "no_such_module")) as bench:
        yield bench


def outcome(bench: Bench, body: str) -> Outcome:
    return bench.try_fault({"elsewhere/area.py": f"def area(w, h):\n    {body}\n"}, TESTS).outcome


def test_a_fault_is_caught(bench: Bench) -> None:
    assert outcome(bench, "return w + h") is Outcome.CAUGHT
    assert outcome(bench, "return w *") is Outcome.CAUGHT


def test_a_fault_survives(bench: Bench) -> None:
    # of the size of the other, and of the same second
    assert outcome(bench, "return h * w") is Outcome.SURVIVED
    assert outcome(bench, "return h + w") is Outcome.CAUGHT
    assert outcome(bench, "return h * w") is Outcome.SURVIVED


def test_a_fault_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.try_clean(TESTS)
    monkeypatch.setattr("tests.mutation.trial._TIMES_CLEAN", 2.0)
    monkeypatch.setattr("tests.mutation.trial._AT_LEAST", 0.1)
    assert outcome(bench, "while True: pass") is Outcome.TIMED_OUT
    assert outcome(bench, "import subprocess; subprocess.run(['sleep', '600'])") is Outcome.TIMED_OUT


def test_the_tree_is_as_it_was(bench: Bench) -> None:
    assert outcome(bench, "raise MemoryError") is Outcome.CAUGHT
    assert (bench.copy.folder / "elsewhere" / "area.py").read_text() == AREA


def test_tests_that_fail_anyway_tell_nothing(bench: Bench) -> None:
    with pytest.raises(NotClean, match="test_wrong"):
        bench.try_fault({"elsewhere/area.py": AREA}, ["tests/test_wrong.py"])
    with pytest.raises(NotClean):  # there is no such file
        bench.try_clean(["tests/test_missing.py"])
