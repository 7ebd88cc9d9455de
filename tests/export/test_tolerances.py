"""Every tolerance of every precision, as a number: what is let pass is part of what the toolkit promises."""

from __future__ import annotations

import dataclasses

import pytest

from sparse_detr_deploy.export.spec import PRECISIONS
from sparse_detr_deploy.export.tolerances import tolerances_of
from sparse_detr_deploy.metadata import Metadata

PROMISED = {
    "float32": {"score": 1e-3, "box": 0.1, "raw": 2e-3, "token_score": 1e-3, "proposal": 4e-3, "median": 1.0},
    "float16": {"score": 0.01, "box": 10.66, "raw": 0.1, "token_score": 4e-3, "proposal": 0.01, "median": 0.1},
}


def test_every_precision_is_promised_something() -> None:
    assert set(PRECISIONS.values()) == set(PROMISED)


@pytest.mark.parametrize("canvas", [(800, 1066), (1066, 800)])
@pytest.mark.parametrize("precision", PROMISED)
def test_tolerances_are_those_that_are_promised(precision: str, canvas: tuple[int, int]) -> None:
    found = dataclasses.asdict(tolerances_of(Metadata("x", "r50", {}, *canvas, (), precision=precision)))
    assert found == pytest.approx(PROMISED[precision], rel=1e-12)
