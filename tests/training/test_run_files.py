"""What a run goes on from, damaged or made up: an error that says so, or a line that is left out."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_detr_deploy.errors import InputError, OutputError
from sparse_detr_deploy.training.config import TrainingConfig, config_from
from sparse_detr_deploy.training.run_log import RunLog
from sparse_detr_deploy.training.trainer import CHECKPOINT, STATE, Trainer, train
from tests.training.conftest import tiny_values

ONE_STEP: dict[str, Any] = {"pretraining": {"steps": 0}, "training": {**tiny_values()["training"], "steps": 1}}
GOOD = '{"phase": "training", "step": 1, "images": 4}'


@pytest.mark.parametrize(
    "line",
    [
        *("3", "null", "[]", '"images"', "{}", "\0\0", "[" * 5000),
        *(f'{{"phase": "training", "step": 1, "images": {images}}}' for images in ('"4"', "null", 10**400)),
    ],
    ids=range(10),
)
def test_a_log_line_that_is_none(line: str, tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.path.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    assert [entry["images"] for entry in log.entries()] == [4, 4]
    log.keep(4)
    assert log.path.read_text() == f"{GOOD}\n{GOOD}\n"


def test_a_log_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.path.write_bytes(GOOD.encode() + b"\n\xff\xfe\n")
    assert len(log.entries()) == 1


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a run of one step."""
    folder = tmp_path_factory.mktemp("run")
    train(config_from(tiny_values(**ONE_STEP)), folder)
    loaded: dict[str, Any] = torch.load(folder / STATE, weights_only=True)
    return loaded


def _endless(state: dict[str, Any]) -> None:
    part = next(iter(state["optimizer"]["state"].values()))
    part["exp_avg"] = torch.zeros(1, dtype=torch.float64).expand(10**12)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("images"),
        lambda state: state.update(images="12"),
        lambda state: state.update(step=-1),
        lambda state: state.update(step=True),
        lambda state: state.update(seconds=float("nan")),
        lambda state: state.update(phase="testing"),
        lambda state: state.update(phase=["training"]),
        lambda state: state.update(config=3),
        lambda state: state["config"].update(model=torch.zeros(3)),
        lambda state: state.update(model={}),
        lambda state: state["model"].update({next(iter(state["model"])): torch.zeros(3, 3)}),
        lambda state: state.update(average={}),
        lambda state: state["average"].update(state={"no such": torch.zeros(3)}),
        lambda state: state.update(optimizer={"state": {}, "param_groups": []}),
        lambda state: state.update(optimizer=[]),
        _endless,
    ],
    ids=range(16),
)
def test_a_state_that_is_none(change: Callable[[dict[str, Any]], Any], state: dict[str, Any], tmp_path: Path) -> None:
    changed = copy.deepcopy(state)
    change(changed)
    torch.save(changed, tmp_path / STATE)
    (tmp_path / CHECKPOINT).write_bytes(b"of an earlier day")
    with pytest.raises(InputError, match=r"state\.pt is (damaged|of a run with another model)"):
        Trainer(config_from(tiny_values(**ONE_STEP)), tmp_path).resume()
    assert (tmp_path / CHECKPOINT).read_bytes() == b"of an earlier day"


def test_the_sound_state_is_taken(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / STATE)
    trainer = Trainer(config_from(tiny_values(**ONE_STEP)), tmp_path)
    trainer.resume()
    assert (trainer.phase, trainer.images) == (state["phase"], state["images"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
@pytest.mark.parametrize("name", [STATE, "log.jsonl", CHECKPOINT])
def test_a_fifo_in_the_place_of_a_file(name: str, tiny_config: TrainingConfig, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(OutputError, match=f"{name} is a device or a FIFO"):
        train(tiny_config, tmp_path)
