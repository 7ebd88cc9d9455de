"""``sparse-detr-export`` as users run it: files, messages, exit codes, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from sparse_detr_deploy import Detector
from sparse_detr_deploy.export import cli, pipeline
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.export.class_names import read_class_names
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.conftest import Export

SIZE = "96x128"


def export(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_files_table_and_json(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "models"
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nbird\nN/A\nρ\n", encoding="utf-8")
    options = ("--output", out, "--size", SIZE, "--num-detections", 20, "--class-names", names, "--json")
    result = export(tiny_checkpoint, "--rho", 0.1, "--rho", "dynamic", "--rho", 0.1, *options)
    assert result.exit_code == 0, result.output
    documents = json.loads(result.stdout)
    assert files(out) == ["thin18_rho10_96x128.onnx", "thin18_rhodyn_96x128.onnx"]
    assert [document["path"] for document in documents] == [str(out / name) for name in files(out)]
    assert [document["rho"] for document in documents] == [0.1, 0.3]
    assert all(document["verification"]["score"] <= 1e-3 for document in documents)
    assert "Verified and written" in result.stderr
    with Detector.load(out / "thin18_rhodyn_96x128.onnx") as detector:
        found = detector(synthetic_image(0, 120, 160), keep_ratio=0.2)
        assert set(found.names) <= {"cat", "dog", "bird", "N/A", "ρ"}
    again = export(tiny_checkpoint, "--rho", 0.1, "--output", out, "--size", SIZE, "--num-detections", 20)
    assert again.exit_code == 6
    assert "--force" in again.stderr


def test_the_trained_ratio_is_the_default(tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = export(tiny_checkpoint, "--output", tmp_path, "--size", SIZE, "--num-detections", 20)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert files(tmp_path) == ["thin18_rho30_96x128.onnx"]


def test_images_to_verify_on(
    tiny_checkpoint: Path, tmp_path: Path, export_tiny: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "export_onnx", lambda model, spec: onnx.load(export_tiny().path))
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "good.png"), synthetic_image(3, 90, 150))
    (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (folder / "empty.png").write_bytes(b"")
    options = ("--output", tmp_path / "out", "--size", SIZE, "--num-detections", 20, "--verify-images", folder)
    result = export(tiny_checkpoint, *options)
    assert result.exit_code == 0, result.output
    assert "corrupt.jpg" in result.stderr
    assert "empty.png" in result.stderr
    (folder / "good.png").unlink()
    assert export(tiny_checkpoint, *options, "--force").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rho", "0"), "above 0 and up to 1"),
        (("--rho", "-0.1"), "above 0 and up to 1"),
        (("--rho", "1.01"), "above 0 and up to 1"),
        (("--rho", "nan"), "above 0 and up to 1"),
        (("--rho", "many"), "'dynamic'"),
        (("--size", "800"), "HEIGHTxWIDTH"),
        (("--size", "0x800"), "HEIGHTxWIDTH"),
        (("--size", "16x16"), "32 pixels or more"),
        (("--size", "99999x99999"), "65,536 pixels a side"),
        (("--batch", "8:4:1"), "out of order"),
        (("--batch", "0"), "at least 1"),
        (("--batch", "1:2"), "smallest:usual:largest"),
        (("--num-detections", "0"), "at least 1"),
        (("--num-detections", "101"), "20 queries × 5 classes"),
        (("--class-names", "no/such/file"), "cannot be read"),
        (("--verify-images", "no/such/folder"), "no/such/folder"),
        (("--dense",), "--random-weights"),
        (("--architecture", "r50"), "either a CHECKPOINT or"),
    ],
)
def test_options_that_are_refused(
    arguments: tuple[str, ...], message: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "export_onnx", heavy_work)
    result = export(tiny_checkpoint, "--output", tmp_path / "out", "--size", SIZE, "--num-detections", 20, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert files(tmp_path / "out") == []


def heavy_work(*arguments: object) -> None:
    raise AssertionError("heavy work was begun")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names", "", "empty"),
        ("names", "a,b\n\nc\n", "line 2"),
        ("names", '["a", 1]', "list of strings"),
        ("names", '{"0": "a"}', "list of strings"),
        ("names.json", "[", "not a JSON list"),
        ("names.JSON", "cat\ndog", "not a JSON list"),
        ("names.json", "[" * 100_000, "not a JSON list"),
        ("names", "[" * 100_000, "a name of 100,000 characters"),
        ("names", "[" * 1000, "1 class names, but the model has 5"),
    ],
)
def test_class_names_that_are_refused(
    name: str, content: str, message: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    options = ("--size", SIZE, "--num-detections", 20, "--class-names", tmp_path / name)
    result = export(tiny_checkpoint, "--output", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("names.txt", "[background]\ncat\n", ("[background]", "cat")),
        ("names.txt", "{unused}\ncat\n", ("{unused}", "cat")),
        ("names", '\ufeff ["cat", "größe"]\n', ("cat", "größe")),
        ("names.json", '["cat"]', ("cat",)),
    ],
)
def test_class_names(name: str, content: str, names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_class_names(tmp_path / name) == names


@pytest.mark.parametrize("as_json", [True, False])
def test_what_was_published_before_a_failure(
    as_json: bool, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export_tiny: Export
) -> None:
    """Is told, and then the error."""
    protos = [onnx.load(export_tiny().path), onnx.ModelProto()]
    monkeypatch.setattr(pipeline, "export_onnx", lambda model, spec: protos.pop(0))
    options = ("--output", tmp_path, "--size", SIZE, "--num-detections", 20, *(["--json"] if as_json else []))
    result = export(tiny_checkpoint, "--rho", 0.3, "--rho", 0.4, *options)
    assert result.exit_code == 7
    assert result.stderr.index("Verified and written") < result.stderr.index("error: thin18_rho40_96x128")
    assert files(tmp_path) == ["thin18_rho30_96x128.onnx"]
    if as_json:
        assert [document["path"] for document in json.loads(result.stdout)] == [str(tmp_path / files(tmp_path)[0])]
    else:
        assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a CHECKPOINT or"),
        (("--architecture", "r50"), "belong together"),
        (("--random-weights", "0"), "belong together"),
    ],
)
def test_neither_checkpoint_nor_architecture(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = export(*arguments, "--output", tmp_path, "--rho", 0.3)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_ratio_for_a_dense_checkpoint(dense_model: SparseDETR, tmp_path: Path) -> None:
    path = save_official_checkpoint(dense_model, tmp_path / "dense.pth")
    for rho in ("0.3", "dynamic"):
        result = export(path, "--output", tmp_path / "out", "--rho", rho, "--size", SIZE)
        assert result.exit_code == 2
        assert "dense encoder" in result.stderr
    assert files(tmp_path / "out") == []


def test_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04 not a checkpoint")
    for name in ("x.pth", "missing.pth"):
        result = export(tmp_path / name, "--output", tmp_path / "out")
        assert result.exit_code == 3, result.output
        assert name in result.stderr
    assert files(tmp_path / "out") == []


def test_an_output_that_is_a_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = export(tiny_checkpoint, "--output", tmp_path / "taken", "--size", SIZE, "--num-detections", 20)
    assert result.exit_code == 6
    assert "taken" in result.stderr


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "setuid"), reason="needs POSIX users")
def test_a_read_only_output(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser may write anywhere, so what the system would say is put in its place."""
    folder = tmp_path / "out"
    folder.mkdir(mode=0o555)
    if os.getuid() == 0:
        import tempfile

        def denied(*arguments: object, **named: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    monkeypatch.setattr(pipeline, "export_onnx", heavy_work)
    result = export(tiny_checkpoint, "--output", folder, "--size", SIZE, "--num-detections", 20)
    assert result.exit_code == 6
    assert "Permission denied" in result.stderr


def program(prelude: str, checkpoint: Path, folder: Path, graph: Path | None = None) -> subprocess.Popen[str]:
    """The program in a process of its own, after ``prelude``; writes to ``folder / "out"``.

    Where what is tested comes after the export, ``graph`` is a file that stands for what PyTorch would give.
    """
    ready = f"pipeline.export_onnx = lambda model, spec: onnx.load({str(graph)!r})\n" if graph else ""
    command = (
        "import onnx, resource, signal, sys, sparse_detr_deploy.export.pipeline as pipeline\n"
        f"{ready}{prelude}\n"
        "sys.argv = ['sparse-detr-export', *sys.argv[1:]]\n"
        "from sparse_detr_deploy.export.cli import main\n"
        "main()\n"
    )
    arguments = [str(checkpoint), "--output", str(folder / "out"), "--size", SIZE, "--num-detections", "20"]
    temporary = folder / "tmp"
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )


def left_over(folder: Path) -> list[str]:
    """Our temporary files; PyTorch leaves some of its own."""
    return [name for name in files(folder) if name.startswith("sparse-detr-")]


# real ones: a file-size limit of the process
FULL = (
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "def fill(*arguments):\n"
    "    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))\n"
)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("fill()", r"the verification needs \d+ MB .*File too large.*TMPDIR"),
        (
            "verify = pipeline.verify\n"
            "def verified(*arguments):\n"
            "    result = verify(*arguments)\n"
            "    fill()\n"
            "    return result\n"
            "pipeline.verify = verified",
            r"no space left for .*thin18_rho30_96x128\.onnx \(File too large\)",
        ),
    ],
    ids=["temporary file", "the file itself"],
)
def test_a_full_disk(place: str, message: str, tiny_checkpoint: Path, export_tiny: Export, tmp_path: Path) -> None:
    process = program(FULL + place, tiny_checkpoint, tmp_path, export_tiny().path)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 6, stderr
    assert re.search(message, stderr), stderr
    assert "Traceback" not in stderr
    assert files(tmp_path / "out") == left_over(tmp_path / "tmp") == []


# what each signal does at these moments: while the graph is made, while it is compared, and while the file is written
MOMENTS = ["export_onnx", "verify", "verify_file"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("number", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_interrupted(
    number: str, code: int, word: str, moment: str, tiny_checkpoint: Path, export_tiny: Export, tmp_path: Path
) -> None:
    prelude = (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where tests run in the background
        f"function = pipeline.{moment}\n"
        "def announced(*arguments, **named):\n"
        "    print('now', flush=True)\n"
        "    while True: function(*arguments, **named)\n"  # so that the signal surely meets it
        f"pipeline.{moment} = announced"
    )
    graph = None if moment == "export_onnx" else export_tiny().path
    process = program(prelude, tiny_checkpoint, tmp_path, graph)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    time.sleep(0.3)
    if moment == "verify_file":
        assert [Path(name).suffix for name in files(tmp_path / "out")] == [".part"]
    process.send_signal(getattr(signal, number))
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == code, stderr
    assert f"{word}; nothing half-written is left" in stderr
    assert "Traceback" not in stderr
    assert files(tmp_path / "out") == left_over(tmp_path / "tmp") == []


@pytest.mark.parametrize("package", ["torch", "onnxscript"])
def test_a_missing_package(package: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A production installation has the command, but not what it needs."""
    command = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['sparse-detr-export', *sys.argv[1:]];"
        "from sparse_detr_deploy.export.cli import main; main()"
    )
    arguments = [str(tiny_checkpoint), "--output", str(tmp_path / "out")]
    result = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 7, result.stderr
    assert "pip install 'sparse-detr-deploy[export]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_needs_no_torch() -> None:
    command = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['x', '--help'];"
        "from sparse_detr_deploy.export.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "130 interrupted" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["r50", "swint", "thin18"])
def test_random_weights(architecture: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sparse_detr_deploy.export.cli", "--architecture", architecture]
    options = ["--random-weights", "0", "--rho", "0.3", "--size", "256x320", "--output", str(tmp_path), "--json"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)[0]
    with Detector.load(document["path"]) as detector:
        assert len(detector(np.zeros((256, 320, 3), np.uint8))) == 100
