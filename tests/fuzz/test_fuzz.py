"""Hostile and unlucky input: at least 20,000 cases, half of them mutated valid ones, and no raw exception."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.harness import CASES_OF_WEIGHT_ONE, Outcome, bounded_memory, run
from tests.fuzz.targets import TARGETS

LEAST_CASES = 20_000
pytestmark = pytest.mark.fuzz


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return {}


@pytest.mark.parametrize("name", TARGETS)
def test_ends_well_or_in_an_error_of_the_toolkit(name: str, outcomes: dict[str, Outcome], tmp_path: Path) -> None:
    target = TARGETS[name]
    with bounded_memory():
        outcome = run(target, range(target.weight * CASES_OF_WEIGHT_ONE), tmp_path)
    outcomes[name] = outcome
    assert not outcome.failures, "\n".join(map(str, outcome.failures))
    # a target that refuses everything, or takes everything, tests nothing
    assert outcome.accepted > 0
    assert outcome.refused > 0 or target.never_refuses


def test_how_many(outcomes: dict[str, Outcome]) -> None:
    if set(outcomes) != set(TARGETS):
        pytest.skip("needs all targets in one run")
    cases = sum(outcome.cases for outcome in outcomes.values())
    assert cases >= LEAST_CASES
    assert sum(outcome.mutated for outcome in outcomes.values()) >= cases // 2
