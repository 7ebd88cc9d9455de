"""Runs of a few steps: trained, evaluated at every ratio, gone on with, drawn."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks.paper import __main__ as program
from sparse_detr_deploy.benchmarks.paper import running
from sparse_detr_deploy.benchmarks.paper import runs as runs_module
from sparse_detr_deploy.benchmarks.paper.running import KEEP_RATIOS, Laboratory
from sparse_detr_deploy.benchmarks.paper.runs import PRETRAINING
from sparse_detr_deploy.errors import InputError
from tests.training.conftest import MODEL, tiny_values


def _runs() -> dict[str, dict[str, Any]]:
    nothing = {"steps": 0}
    dense = {**MODEL, "rho": 0.0}
    learned = {**dense, "two_stage": False, "eff_query_init": False, "eff_specific_head": False}
    base = tiny_values(pretraining=nothing, val_images=3)
    return {
        PRETRAINING: tiny_values(training=nothing, val_images=3),
        "dam_rho30": base,
        "os_rho30": {**base, "saliency": "objectness"},
        "dense": {**base, "model": dense},
        "learned_queries": {**base, "model": learned},
    }


class Threads(ThreadPoolExecutor):
    """In the place of the processes, each of which would import torch anew."""

    def __init__(self, jobs: int, **options: Any) -> None:
        super().__init__(jobs)


@pytest.fixture(scope="module")
def threads() -> Iterator[None]:
    before = torch.get_num_threads()  # a run takes one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "ProcessPoolExecutor", Threads)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("laboratory"), _runs(), 1, lambda message: None)


@pytest.fixture(scope="module")
def results(laboratory: Laboratory, threads: None) -> dict[str, dict[str, Any]]:
    names = [name for name in _runs() if name != PRETRAINING]
    return {result["name"]: result for result in laboratory.results((name, 1) for name in names)}


def test_a_result_for_each_run(results: dict[str, dict[str, Any]]) -> None:
    assert set(results) == {"dam_rho30", "os_rho30", "dense", "learned_queries"}
    for name in ("dam_rho30", "os_rho30"):
        assert [entry["rho"] for entry in results[name]["evaluation"]] == list(KEEP_RATIOS)
        shares = [entry["corr"] for entry in results[name]["evaluation"]]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1, abs=1e-5)
        assert all(0 <= entry["corr"] <= 1 for entry in results[name]["log"])
    for name in ("dense", "learned_queries"):
        assert [(entry["rho"], entry["corr"]) for entry in results[name]["evaluation"]] == [(None, None)]
        assert [entry["step"] for entry in results[name]["log"]] == [1, 2, 3]


def test_results_name_no_folder_of_this_machine(laboratory: Laboratory, results: dict[str, dict[str, Any]]) -> None:
    for result in results.values():
        assert str(laboratory.folder) not in json.dumps(result)
        assert result["seed"] == result["config"]["seed"] == 1


def test_what_is_done_is_not_done_again(laboratory: Laboratory, results: dict[str, dict[str, Any]]) -> None:
    again = {result["name"]: result for result in laboratory.results([("dense", 1)])}
    assert again["dense"] == results["dense"]


def test_a_result_of_another_config_is_refused(laboratory: Laboratory, results: dict[str, dict[str, Any]]) -> None:
    changed = {**laboratory.runs, "dense": {**laboratory.runs["dense"], "ema_decay": 0.5}}
    other = Laboratory(laboratory.folder, changed, 1, lambda message: None)
    with pytest.raises(InputError, match=r"dense_seed1/result.json is of another config: remove"):
        list(other.results([("dense", 1)]))


def test_runs_are_carried_out_in_processes(laboratory: Laboratory, results: dict[str, dict[str, Any]]) -> None:
    """Told what is done, with its accuracy; in the end the result of a process is that of this one."""
    said: list[str] = []
    folder = laboratory.folder.with_name("processes")
    shutil.copytree(laboratory.folder, folder)
    shutil.rmtree(folder / "dense_seed1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "ProcessPoolExecutor", ProcessPoolExecutor)
        (again,) = Laboratory(folder, _runs(), 1, said.append).results([("dense", 1)])
    for part in ("evaluation", "log", "config"):
        assert again[part] == results["dense"][part]
    precision = again["evaluation"][0]["AP"]
    assert re.fullmatch(rf"dense seed 1, \d+ s: AP {precision:.3f} at None", said[-1])


def test_after_an_error_nothing_more_is_begun(
    laboratory: Laboratory, results: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    begun: list[tuple[str, int]] = []

    class Pool(Threads):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            over.set()
            super().shutdown(wait=True)

    def carry_out(job: tuple[str, int], config: Any, folder: Path) -> dict[str, Any]:
        begun.append(job)
        if job == ("dense", 1):
            raise InputError("it is of another config")
        if job[0] != PRETRAINING:
            assert over.wait(60)
        return {**results["dense"], "name": job[0], "seed": job[1]}

    monkeypatch.setattr(running, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(running, "carry_out", carry_out)
    waiting = [("os_rho30", seed) for seed in range(2, 12)]
    with pytest.raises(InputError, match="another config"):
        list(laboratory.results([("dense", 1), *waiting]))
    assert begun[:2] == [(PRETRAINING, 0), ("dense", 1)]
    assert set(begun[2:]) <= {waiting[0]}


def test_the_program_writes_results_and_figures(
    laboratory: Laboratory, results: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "read_runs", _runs)
    output = tmp_path / "results"
    arguments = [str(laboratory.folder), "--seed", "1", "--jobs", "1", "--output", str(output)]
    done = CliRunner().invoke(program.main, arguments)
    assert done.exit_code == 0, done.output
    assert {path.name for path in (output / "runs").iterdir()} == {f"{name}_seed1.json" for name in results}
    names = {"saliency", "correlation", "encoder_auxiliary", "dynamic_sparsification", "decoder_queries"}
    assert {path.name for path in output.glob("*.*")} == {f"{name}{end}" for name in names for end in (".json", ".png")}
    assert "| one model, trained at ρ = 0.3 |" in done.stdout
    drawn = (output / "saliency.json").read_bytes()
    redrawn = CliRunner().invoke(program.main, ["unused", "--draw-only", "--output", str(output)])
    assert redrawn.exit_code == 0
    assert (output / "saliency.json").read_bytes() == drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "dam_rho31"], "no run is called dam_rho31; there are dam_rho05, "),
        (["--draw-only"], "give it as --output"),
        (["--draw-only", "--output", "nowhere"], "there are no results of runs in nowhere/runs"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(program.main, ["work", *arguments])
    assert done.exit_code == 2
    assert message in done.output
    assert not Path("work").exists()
