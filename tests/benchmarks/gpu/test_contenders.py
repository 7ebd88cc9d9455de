"""What is checked, timed in turn and left out."""

import pytest
import torch

from benchmarks.gpu.contenders import OURS, Contender, compare
from benchmarks.gpu.timing import input_sets, interleave
from sparse_detr_deploy.errors import VerificationError
from tests.benchmarks.gpu.stand_ins import host_stopwatch


def test_a_peer_that_is_wrong_or_writes_nothing_has_no_ratio():
    right = torch.ones(3)
    silent, wrong = torch.ones(3), torch.ones(3)

    def contender(output, run):
        return Contender([run], lambda: output, 0.01, output)

    ours = torch.ones(3)
    contenders = {
        OURS: contender(ours, lambda: ours.fill_(1)),
        "silent": contender(silent, lambda: None),
        "wrong": contender(wrong, lambda: wrong.fill_(1.1)),
    }
    row = compare(contenders, lambda output: float((output - right).norm()), host_stopwatch, rounds=1, warm_up=0)
    assert row["peers"] == {
        "silent": {"left_out": "wrong result: error nan where 0.01 is allowed"},
        "wrong": {"left_out": "wrong result: error 0.17 where 0.01 is allowed"},
    }
    with pytest.raises(VerificationError, match="wrong result"):
        compare({OURS: contender(silent, lambda: None)}, lambda output: float(output.sum()), host_stopwatch)


def test_a_peer_that_cannot_be_captured_is_left_out_with_the_reason():
    def capturing(calls):
        if calls[0] is refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        return host_stopwatch(calls)

    def refuses():
        pass

    contenders = {OURS: Contender([lambda: None], lambda: torch.zeros(1), 0.0)}
    contenders["peer"] = Contender([refuses], lambda: torch.zeros(1), 0.0)
    row = compare(contenders, lambda output: float(output), capturing, rounds=1, warm_up=0)
    assert row["peers"] == {"peer": {"left_out": "operation not permitted when stream is capturing"}}


def test_rounds_take_turns_and_give_medians_and_their_noise():
    order = []

    def run(name, times):
        values = iter(times)
        return lambda: order.append(name) or next(values)

    timings = interleave({"a": run("a", [9, 1, 1, 3, 3]), "b": run("b", [9, 2, 2, 2, 2])}, rounds=4, warm_up=1)
    assert order == ["a", "b"] * 5
    assert (timings["a"].us, timings["a"].noise_us) == (2.0, 2.0)
    assert (timings["b"].us, timings["b"].noise_us) == (2.0, 0.0)


def test_input_sets_overflow_the_cache():
    assert input_sets(10_000_000, 50_000_000) == 10
    assert input_sets(80_000_000, 50_000_000) == 4
    assert input_sets(1, 50_000_000) == 16
