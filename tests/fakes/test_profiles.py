"""The fake TensorRT refuses the optimisation profiles that the real one refuses, when that does."""

from __future__ import annotations

import pytest

from tests.export.engine.rtx import results, run_rtx
from tests.fakes.profile_cases import CASES, outcome
from tests.fakes.tensorrt import FakeTensorRT


@pytest.mark.parametrize("title", CASES)
def test_the_fake(title: str) -> None:
    *case, expected = CASES[title]
    assert outcome(FakeTensorRT(), *case) == expected


@pytest.mark.network
def test_tensorrt_rtx() -> None:
    finished = run_rtx("import runpy; runpy.run_module('tests.fakes.profile_cases', run_name='__main__')")
    assert finished.returncode == 0, finished.stderr
    assert results(finished.stdout) == [{title: case[-1] for title, case in CASES.items()}]
