"""``sparse-detr-export`` with engines: from a checkpoint, from an exported file, and what it refuses before any work."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparse_detr_deploy.engine_record import read_sidecar
from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export import cli, pipeline
from sparse_detr_deploy.export.engine import cli_options
from sparse_detr_deploy.export.engine import pipeline as engine_pipeline
from sparse_detr_deploy.export.engine.publishing import publish_pair
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name
from sparse_detr_deploy.modeling import SparseDETR
from tests.conftest import Export
from tests.export.engine.rtx import export_program, rtx_environment
from tests.failing_calls import fail_once
from tests.fakes.tensorrt import FakeTensorRT

ROOT = Path(__file__).parents[2]
SIZE = ("--size", "96x128", "--num-detections", "20")
RTX = ("--engine", "tensorrt-rtx")


def program(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


@pytest.fixture
def tiny_name(tiny_model: SparseDETR) -> str:
    """Of the files that are made of ``tiny_checkpoint``."""
    return artefact_name(tiny_model.config, ExportSpec(96, 128, rho=0.3))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.network
def test_from_a_checkpoint(tiny_checkpoint: Path, tiny_name: str, tmp_path: Path) -> None:
    """The file and its engine, one document of both; a second time only with --force."""
    out = tmp_path / "out"
    arguments = (tiny_checkpoint, "--output", out, *SIZE, *RTX, "--target", "sm89")
    finished = export_program(*arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    (document,) = json.loads(finished.stdout)
    names = [f"{tiny_name}.{suffix}" for suffix in ("engine", "engine.json", "onnx")]
    assert files(out) == names
    assert [Path(path).name for path in (document["path"], document["engine"]["path"])] == [names[2], names[0]]
    assert document["engine"]["onnx_sha256"] == document["sha256"]
    assert "Engines" in finished.stderr
    (out / names[2]).unlink()
    again = export_program(*arguments)
    assert again.returncode == 6
    assert "--force" in again.stderr


@pytest.mark.network
def test_from_an_exported_file_without_torch(export_tiny: Export, tmp_path: Path) -> None:
    """The machine with the GPU needs no torch."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['sparse-detr-export', *sys.argv[1:]];"
        "from sparse_detr_deploy.export.cli import main; main()"
    )
    arguments = [str(export_tiny().path), "--output", str(tmp_path), *RTX]
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=rtx_environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    metadata, _ = read_sidecar(tmp_path / f"{export_tiny().path.stem}.engine")
    assert metadata == export_tiny().metadata


FAKE = {"flavour": "tensorrt-rtx", "version": "1.7.1.116"}


def test_from_a_checkpoint_on_the_fake(
    tiny_checkpoint: Path,
    tiny_name: str,
    export_tiny: Export,
    dynamic_tiny: ExportResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two files that were exported before take the place of the export; each has its engine, and its line."""
    fake, results = FakeTensorRT(**FAKE), (export_tiny(), dynamic_tiny)

    def export(model: object, specs: list[ExportSpec], *rest: Any) -> None:
        for result in results:
            rest[-1](result)

    monkeypatch.setattr(engine_pipeline, "load_flavour", lambda name: fake)
    monkeypatch.setattr(pipeline, "export_artefacts", export)
    rhos = ("--rho", "0.3", "--rho", "dynamic")
    finished = program(tiny_checkpoint, "--output", tmp_path, *SIZE, *rhos, *RTX, "--target", "sm86", "--json")
    assert finished.exit_code == 0, finished.stderr
    documents = json.loads(finished.stdout)
    assert [document["path"] for document in documents] == [str(result.path) for result in results]
    for document, result in zip(documents, results, strict=True):
        assert document["engine"]["path"] == str(tmp_path / f"{result.path.stem}.engine")
        assert document["engine"]["onnx_sha256"] == document["sha256"] == result.sha256
        assert document["engine"]["targets"] == ["sm86"]
    assert fake.calls["targets"] == [["SM86"]] * 2
    lines = finished.stderr.split("Engines")[1].splitlines()
    assert sum("sm86" in line for line in lines) == 2


def test_from_an_exported_file_without_torch_on_the_fake(export_tiny: Export, tmp_path: Path) -> None:
    code = f"""
import sys; sys.modules['torch'] = None
from sparse_detr_deploy.export.engine import pipeline
from tests.fakes.tensorrt import FakeTensorRT
pipeline.load_flavour = lambda name: FakeTensorRT(**{FAKE})
sys.argv = ['sparse-detr-export', *sys.argv[1:]]
from sparse_detr_deploy.export.cli import main; main()
"""
    command = [sys.executable, "-c", code, str(export_tiny().path), "--output", str(tmp_path), *RTX]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    metadata, record = read_sidecar(tmp_path / f"{export_tiny().path.stem}.engine")
    assert metadata == export_tiny().metadata
    assert record.targets == ("sm89", "sm120")


@pytest.fixture
def _opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the flavour were installed, so that the refusals after it are seen; no work may begin."""

    def heavy_work(*arguments: object) -> None:
        raise AssertionError("heavy work was begun")

    monkeypatch.setattr(cli_options, "open_pipeline", lambda spec: None)
    monkeypatch.setattr(pipeline, "export_onnx", heavy_work)


@pytest.mark.usefixtures("_opened")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--engine", "trt"), 2, "tensorrt-rtx"),
        (("--target", "sm89"), 2, "give --engine"),
        (("--workspace", "64"), 2, "--workspace"),
        (("--self-contained",), 2, "--self-contained"),
        (("--allow-fallback",), 2, "--allow-fallback"),
        ((*RTX, "--target", "sm90"), 2, "data-centre"),
        ((*RTX, "--target", "ada"), 2, "sm121"),
        ((*RTX, "--target", "sm75", "--precision", "fp16"), 2, "no float32 matrix products"),
        ((*RTX, "--self-contained"), 2, "no plugins"),
        (("--engine", "tensorrt", "--target", "sm89"), 2, "takes no --target"),
        ((*RTX, "--inline-functions"), 2, "exclude each other"),
        ((*RTX, "--padded", "--rho", "dynamic", "--batch", "1:1:2"), 2, "one number a run"),
    ],
)
def test_refusals(arguments: tuple[str, ...], code: int, message: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = program(tiny_checkpoint, "--output", tmp_path / "out", *SIZE, *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert files(tmp_path / "out") == []


@pytest.mark.usefixtures("_opened")
def test_more_detections_than_topk_takes(tmp_path: Path) -> None:
    source = ("--architecture", "r50", "--random-weights", 0, "--output", tmp_path / "out")
    result = program(*source, "--size", "128x128", "--num-detections", 5000, *RTX)
    assert result.exit_code == 2, result.output
    assert "at most 3840" in result.stderr
    assert files(tmp_path / "out") == []


@pytest.mark.usefixtures("_opened")
@pytest.mark.parametrize("suffix", ["engine", "engine.json"])
def test_files_that_are_there(suffix: str, tiny_checkpoint: Path, tiny_name: str, tmp_path: Path) -> None:
    name = f"{tiny_name}.{suffix}"
    (tmp_path / name).write_text("precious")
    result = program(tiny_checkpoint, "--output", tmp_path, *SIZE, *RTX)
    assert result.exit_code == 6
    assert "--force" in result.stderr
    assert (tmp_path / name).read_text() == "precious"


def test_without_the_flavour(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """In this process there is none, and the way to it is told."""
    if importlib.util.find_spec("tensorrt_rtx"):
        pytest.skip("TensorRT-RTX is installed")
    result = program(tiny_checkpoint, "--output", tmp_path / "out", *SIZE, *RTX)
    assert result.exit_code == 7
    assert "pip install 'sparse-detr-deploy[rtx]'" in result.stderr
    assert files(tmp_path / "out") == []


def test_options_of_an_export_with_an_exported_file(dynamic_tiny: ExportResult, tmp_path: Path) -> None:
    result = program(dynamic_tiny.path, "--output", tmp_path, "--rho", "0.1", *RTX)
    assert result.exit_code == 2
    assert "--rho cannot be chosen any more" in result.stderr
    result = program(dynamic_tiny.path, "--output", tmp_path)
    assert result.exit_code == 2
    assert "give --engine" in result.stderr


@pytest.mark.network
def test_not_an_exported_file(tmp_path: Path) -> None:
    """An ONNX file of someone else, or none."""
    (tmp_path / "x.onnx").write_bytes(b"not an ONNX file")
    for name in ("x.onnx", "missing.onnx"):
        finished = export_program(tmp_path / name, "--output", tmp_path / "out", *RTX)
        assert finished.returncode == 4, finished.stderr
        assert name in finished.stderr
    assert files(tmp_path / "out") == []


def test_help() -> None:
    """Of the program, and of each of its commands."""
    usual = program("--help")
    assert usual.exit_code == 0
    assert "[OPTIONS] [CHECKPOINT]" in usual.stdout
    assert "plugins|doctor" in usual.stdout
    assert " export " not in usual.stdout.splitlines()[0]
    for command in (("plugins",), ("plugins", "build"), ("doctor",)):
        result = program(*command, "--help")
        assert result.exit_code == 0
        assert result.stdout.startswith("Usage: ")


def publish(engine: Path, interrupted: bool = False, overwrite: bool = False) -> None:
    with publish_pair(engine, overwrite=interrupted or overwrite) as (engine_file, sidecar_file):
        engine_file.write_bytes(b"engine")
        if interrupted:
            raise KeyboardInterrupt
        sidecar_file.write_text("{}")


@pytest.mark.parametrize("failing", [0, 1], ids=["engine", "sidecar"])
def test_engine_and_sidecar_appear_together(failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second cannot be renamed, the first goes again."""
    engine = tmp_path / "x.engine"
    done = fail_once(monkeypatch, os, "link", failing)
    with pytest.raises(OutputError, match="no space"):
        publish(engine)
    assert files(tmp_path) == []
    assert len(done) == failing + 1


@pytest.mark.parametrize("failing", [0, 1], ids=["engine", "sidecar"])
def test_an_old_pair_stays(failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --force: where one of the new files cannot be renamed, both old ones are there again."""
    engine = tmp_path / "x.engine"
    publish(engine)
    engine.write_bytes(b"old")
    sidecar = tmp_path / "x.engine.json"
    sidecar.write_text("old")
    fail_once(monkeypatch, os, "replace", failing)
    with pytest.raises(OutputError, match="no space"):
        publish(engine, overwrite=True)
    assert files(tmp_path) == ["x.engine", "x.engine.json"]
    assert (engine.read_bytes(), sidecar.read_text()) == (b"old", "old")


def test_of_two_pairs_at_once_the_first_stays(tmp_path: Path) -> None:
    """The second, whose engine finds the name taken, removes nothing of the first."""
    engine = tmp_path / "x.engine"

    def write() -> None:
        with publish_pair(engine) as (late, late_sidecar):
            late.write_bytes(b"late")
            late_sidecar.write_text("late")
            publish(engine)

    with pytest.raises(OutputError, match=r"x\.engine exists already, written by another program meanwhile"):
        write()
    assert files(tmp_path) == ["x.engine", "x.engine.json"]
    assert (engine.read_bytes(), (tmp_path / "x.engine.json").read_text()) == (b"engine", "{}")


RACE = """
import os, random, sys, time
# told to start by a file, when both are ready
from pathlib import Path
from sparse_detr_deploy.export.engine.publishing import publish_pair
real = os.replace
def slowly(source, target):  # so that the other comes between two renames
    real(source, target)
    time.sleep(random.random() / 100)
os.replace = slowly
engine, mark, place = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
(place / mark).touch()
while not (place / "go").exists():
    time.sleep(0.01)
for index in range(100):
    with publish_pair(engine.with_name(f"{index}.engine"), overwrite=True) as (one, other):
        one.write_text(mark)
        other.write_text(mark)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock of folders")
def test_pairs_that_are_overwritten_at_once_do_not_mix(tmp_path: Path) -> None:
    place = tmp_path / "start"
    place.mkdir()
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path / "x"), mark, str(place)]) for mark in ("a", "b")
    ]
    while not all((place / mark).exists() for mark in ("a", "b")):
        assert [racer.poll() for racer in racers] == [None, None]
        time.sleep(0.01)
    (place / "go").touch()
    assert [racer.wait(timeout=300) for racer in racers] == [0, 0]
    for index in range(100):
        engine = tmp_path / f"{index}.engine"
        assert engine.read_text() == Path(f"{engine}.json").read_text()


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    for name in ("x.engine", "x.engine.json"):
        (tmp_path / name).write_text("before")
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "x.engine", interrupted=True)
    assert files(tmp_path) == ["x.engine", "x.engine.json"]
    assert (tmp_path / "x.engine").read_text() == "before"
