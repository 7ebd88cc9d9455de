"""A run takes no folder of somebody else, and shares its own with no other run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.training.cli import main
from sparse_detr_deploy.training.run_folder import CHECKPOINT, LOCK, LOG, STATE, run_folder
from tests.training.conftest import MODEL

CONFIG = """
val_images = 1
log_every = 1
checkpoint_every = {every}
[model]
{model}
[scenes]
height = 96
width = 96
sizes = [12, 48]
[training]
steps = {steps}
warm_up = 0
batch_size = 2
train_images = 4
decay_share = 0.0
"""


def config(folder: Path, steps: int, every: int = 1) -> Path:
    path = folder / f"{steps}.toml"
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in MODEL.items())
    path.write_text(CONFIG.format(model=model, steps=steps, every=every))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run in ``tmp_path / "run"`` that does not end by itself, after its first log line and before its first state."""
    command = [sys.executable, "-m", "sparse_detr_deploy.training.cli", str(config(tmp_path, 10**6, 10**6))]
    process = subprocess.Popen([*command, "--output", str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / LOG).exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("names", [(CHECKPOINT,), (LOG, CHECKPOINT), ("notes.txt",), (LOG,)], ids=str)
def test_a_folder_of_somebody_else_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"mine\n")
    before = files(folder)
    result = CliRunner().invoke(main, [str(config(tmp_path, 1)), "--output", str(folder)])
    assert result.exit_code == 6, result.output
    assert f"holds {names[-1]}, but no state.pt" in result.stderr
    assert files(folder) == before


def test_a_state_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """And the refusal leaves no mark that would make the folder ours once that state is gone."""
    folder = tmp_path / "mine"
    folder.mkdir()
    torch.save({"model": {}, "epoch": 3}, folder / STATE)
    (folder / CHECKPOINT).write_bytes(b"mine")
    before = files(folder)
    command = [str(config(tmp_path, 1)), "--output", str(folder)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2, result.output
    assert "not the state of a training run" in result.stderr
    assert files(folder) == before
    (folder / STATE).unlink()
    assert CliRunner().invoke(main, command).exit_code == 6


def test_two_runs_do_not_share_a_folder(endless: subprocess.Popen[bytes], tmp_path: Path) -> None:
    second = [str(config(tmp_path, 2)), "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(main, second)
    assert result.exit_code == 6, result.output
    assert f"the folder of another run, process {endless.pid}:" in result.stderr
    assert endless.poll() is None
    # killed, it holds nothing; and its folder is that of a run, though there is no state yet
    endless.kill()
    endless.wait()
    assert {LOCK, LOG} <= files(tmp_path / "run").keys()
    result = CliRunner().invoke(main, second)
    assert result.exit_code == 0, result.output
    assert files(tmp_path / "run").keys() == {STATE, LOG, CHECKPOINT}
    steps = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [entry["step"] for entry in steps if "loss" in entry] == [1, 2]


@pytest.mark.parametrize("name", [STATE, LOG, CHECKPOINT])
def test_no_file_takes_the_place_of_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="is a folder"), run_folder(tmp_path):
        pass
    assert (tmp_path / name).is_dir()


def test_folders_of_older_versions_are_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"phase": "training", "step": 50, "images": 800, "loss": 3.0}\n{"pha')
    with run_folder(tmp_path):  # killed before its first state
        pass
    for name in (STATE, CHECKPOINT, "events.out"):
        (tmp_path / name).write_bytes(b"content")
    with run_folder(tmp_path):
        assert LOCK in files(tmp_path)
    assert LOCK not in files(tmp_path)
