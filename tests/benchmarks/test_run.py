"""``sparse-detr-bench run`` on tiny files."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from sparse_detr_deploy import Detections, Detector
from sparse_detr_deploy.benchmarks import running
from sparse_detr_deploy.benchmarks.accuracy import evaluate
from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.benchmarks.coco_file import read_coco
from sparse_detr_deploy.benchmarks.memory import Peaks, own_peak
from sparse_detr_deploy.benchmarks.results import Report
from sparse_detr_deploy.benchmarks.table import results_table
from sparse_detr_deploy.hashing import sha256_of
from tests.benchmarks.conftest import make_report, make_row


def bench(*arguments: object) -> Result:
    """One thread: two sessions that spin for work slow each other down on a busy machine. On a wide terminal."""
    command = ["run", "--threads=1", *map(str, arguments)]
    return CliRunner(env={"COLUMNS": "400"}).invoke(main, command, catch_exceptions=False)


@pytest.fixture(autouse=True)
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in a process of its own where ``results`` are made, and nowhere else."""
    monkeypatch.setattr(running, "peak_memory", lambda contender, runtime: Peaks(300.0))


def refused(result: Result, exit_code: int, *messages: str) -> None:
    assert result.exit_code == exit_code, result.output
    for message in messages:
        assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def results(artefacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder with the outputs of one run of all three artefacts."""
    folder = tmp_path_factory.mktemp("results")
    outputs = [f"--{name}={folder / f'results.{suffix}'}" for name, suffix in (("json", "json"), ("csv", "csv"))]
    outputs.append(f"--plot={folder / 'plot.png'}")
    arguments = ["--keep-ratio=0.1", "--keep-ratio=0.5", "--rounds=9", "--warmup=1"]
    return folder, bench(*artefacts.values(), *outputs, *arguments)


def test_rows(results: tuple[Path, Result], artefacts: dict[str, Path]) -> None:
    folder, result = results
    assert result.exit_code == 0, result.stderr
    report = Report.read(folder / "results.json")
    assert [(row.name, row.rho, row.kept) for row in report.rows] == [
        (artefacts["fixed"].stem, 0.3, 128),
        (artefacts["dynamic"].stem, 0.1, 43),
        (artefacts["dynamic"].stem, 0.5, 214),
        (artefacts["dense"].stem, None, 426),
    ]
    gmacs = [row.gmacs or 0 for row in report.rows]
    assert gmacs[1] < gmacs[0] < gmacs[2]
    for row in report.rows:
        path = next(path for path in artefacts.values() if path.name == row.artefact)
        assert row.sha256 == sha256_of(path)
        assert len(row.samples_ms.inference) == 9
        assert all(value > 0 for value in row.samples_ms.inference)
        assert row.tokens == 426
        # a process that has loaded a network holds more than its weights
        assert row.peak_memory_mib is not None
        assert row.peak_memory_mib > path.stat().st_size / 2**20
        assert row.runtime["num_threads"] == 1


def test_json_document(results: tuple[Path, Result]) -> None:
    document = json.loads((results[0] / "results.json").read_text())
    row = document["rows"][0]
    for part in ("preprocess", "inference", "postprocess", "total"):
        assert set(row["statistics"][part]) == {"mean_ms", "std_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "fps"}
    assert row["stability"]["verdict"] in ("stable", "unstable")
    environment = document["environment"]
    for key in ("cpu", "cores_usable", "memory_gib", "os", "python", "toolkit_version", "git_commit", "time_utc"):
        assert key in environment
    assert "onnxruntime" in environment["packages"]
    assert len(environment["load_average_start"]) == len(environment["load_average_end"]) == 3
    assert "resident" in document["settings"]["peak_memory"]


def test_csv_table(results: tuple[Path, Result]) -> None:
    with (results[0] / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    report = Report.read(results[0] / "results.json")
    assert [row["rho"] for row in rows] == ["0.3", "0.1", "0.5", ""]
    for line, row in zip(rows, report.rows, strict=True):
        assert line["sha256"] == row.sha256
        assert float(line["inference_p50_ms"]) == pytest.approx(row.statistics().p50)
        assert line["stability"] == row.verdict


def test_plot(results: tuple[Path, Result]) -> None:
    picture = cv2.imread(str(results[0] / "plot.png"))
    assert picture.shape == (630, 1500, 3)  # two panels
    for color in ((180, 119, 31), (14, 127, 255), (44, 160, 44)):  # of three lines, in this order of channels
        assert (picture == color).all(-1).sum() > 100


def test_table_is_for_people(results: tuple[Path, Result]) -> None:
    """The table of the report, however wide its columns; what is in it is told by ``test_table``."""
    folder, result = results
    expected = io.StringIO()
    Console(file=expected, width=160).print(results_table(Report.read(folder / "results.json")))
    assert result.stdout == ""
    assert expected.getvalue() in result.stderr


def test_nothing_else_is_left(results: tuple[Path, Result]) -> None:
    assert sorted(path.name for path in results[0].iterdir()) == ["plot.png", "results.csv", "results.json"]


def test_accuracy_and_unreadable_images(artefacts: dict[str, Path], images: Path, coco: dict[str, Any]) -> None:
    """The precision of what the artefact itself finds; of its best find one object is made, so that there is some."""
    found: dict[str, dict[int, Detections]] = {}
    for name in ("fixed", "dense"):
        with Detector.load(artefacts[name], num_threads=1) as detector:
            found[name] = {number: detector(images / f"{number - 10}.png") for number in (10, 12)}
    best = found["fixed"][10].to_coco(10)[0]
    coco["images"].append({"id": 11, "file_name": "1.png"})  # the corrupt one
    coco["categories"] = [{"id": number} for number in range(91)]
    coco["annotations"][0].update(category_id=best["category_id"], bbox=best["bbox"])
    annotations = images.parent / "coco.json"
    annotations.write_text(json.dumps(coco))
    arguments = ["--images", images, "--annotations", annotations, "--json", "-", "--rounds", 1, "--warmup", 0]
    result = bench(artefacts["fixed"], artefacts["dense"], *arguments)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert "1.png" in result.stderr
    assert len(document["left_out"]) == 1
    assert "1.png" in document["left_out"][0]
    assert "1 annotated images are not in" in result.stderr
    for row, name in zip(document["rows"], ("fixed", "dense"), strict=True):
        assert row["accuracy"] == pytest.approx(evaluate(read_coco(annotations)[0], found[name]).to_dict())
        assert row["accuracy"]["images"] == 2
        assert row["stability"]["verdict"] == "too few rounds"
    assert document["rows"][0]["accuracy"]["AP"] > 0


@pytest.mark.skipif(os.name != "posix", reason="needs names of any bytes")
def test_names_that_are_not_utf8(artefacts: dict[str, Path], images: Path, tmp_path: Path) -> None:
    folder = images.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    (folder / "0.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    (folder / "1.png").rename(folder / os.fsdecode(b"corrupt\xe9.png"))
    outputs = ["--json", tmp_path / "x.json", "--csv", tmp_path / "x.csv", "--plot", tmp_path / "x.svg"]
    result = bench(artefacts["fixed"], "--images", folder, "--rounds", 1, "--warmup", 0, *outputs)
    assert result.exit_code == 0, result.stderr
    report = Report.read(tmp_path / "x.json")
    assert report.settings["images"] == os.fsdecode(b"2 images of caf\xe9")
    assert os.fsdecode(b"corrupt\xe9.png") in report.left_out[0]
    assert r"corrupt\udce9.png" in result.stderr


def test_a_full_disk_does_not_lose_the_table(
    artefacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sparse_detr_deploy.export.publish.os.replace", full)
    result = bench(artefacts["fixed"], "--rounds", 1, "--warmup", 0, "--json", tmp_path / "results.json")
    refused(result, 6, "no space left", "p50", artefacts["fixed"].stem)
    assert list(tmp_path.iterdir()) == []


def test_batch(artefacts: dict[str, Path]) -> None:
    result = bench(artefacts["dense"], "--batch", 2, "--rounds", 1, "--warmup", 0, "--json", "-")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["batch"] == 2
    seconds = row["samples_ms"]["inference"][0] / 1000
    assert row["statistics"]["inference"]["fps"] == pytest.approx(2 / seconds)


def test_bad_settings(artefacts: dict[str, Path], annotations: Path, tmp_path: Path) -> None:
    fixed = artefacts["fixed"]
    refused(bench(fixed, "--keep-ratio", 0.1), 2, "dynamic")
    refused(bench(artefacts["dynamic"], "--keep-ratio", 1.5), 2, "keep ratio")
    refused(bench(fixed, "--batch", 2), 2, "batches of 1")
    refused(bench(fixed, "--annotations", annotations), 2, "--images")
    refused(bench(fixed, "--backend", "openvino", "--provider", "cuda"), 2, "CPU only")
    refused(bench(fixed, "--backend", "openvino"), 4, "--inline-functions")
    (tmp_path / "empty").mkdir()
    refused(bench(fixed, "--images", tmp_path / "empty"), 2, "holds no image")
    refused(bench(fixed, "--images", tmp_path / "nowhere"), 2, "not a folder")


def test_only_corrupt_images(artefacts: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    refused(bench(artefacts["fixed"], "--images", folder), 2, "a.jpg is empty", "no readable image")


def test_annotations_that_are_not_coco(artefacts: dict[str, Path], images: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"boxes": []}')
    refused(bench(artefacts["fixed"], "--images", images, "--annotations", wrong), 2, "not a COCO")


def test_bad_artefacts(artefacts: dict[str, Path], tmp_path: Path) -> None:
    refused(bench(tmp_path / "none.onnx"), 4, "does not exist")
    truncated = tmp_path / "cut.onnx"
    truncated.write_bytes(artefacts["fixed"].read_bytes()[:1000])
    refused(bench(artefacts["fixed"], truncated), 4, "cut.onnx")
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("not ours")
    refused(bench(foreign), 4, "foreign.txt")


def test_outputs_are_checked_before_any_work(artefacts: dict[str, Path], tmp_path: Path) -> None:
    missing = tmp_path / "none.onnx"  # would be refused next
    (tmp_path / "file").write_text("")
    refused(bench(missing, "--json", tmp_path / "file" / "results.json"), 6, "cannot be written")
    refused(bench(missing, "--csv", tmp_path), 6, "is a folder")
    refused(bench(missing, "--plot", tmp_path / "plot.bmp"), 2, ".png")
    refused(bench(missing, "--plot", "-"), 2, "stdout")
    refused(bench(missing, "--json", tmp_path / "x.csv", "--csv", tmp_path / "x.csv"), 2, "one name")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.engine", "model.pth", "results", "results.json.gz", "x.csv", "x.txt"]
)
@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_results_do_not_replace_an_artefact(option: str, name: str, tmp_path: Path) -> None:
    if name == "x.csv":
        name = {"--json": "x.csv", "--csv": "x.json"}[option]
    for there in (False, True):
        if there:
            (tmp_path / name).write_bytes(b"precious")
        refused(bench(tmp_path / "none.onnx", option, tmp_path / name), 2, name, f"ends in .{option[2:]}")
    assert (tmp_path / name).read_bytes() == b"precious"


@pytest.mark.parametrize("content", [b'{"images": []}', b"\x08\x01", b"name,colour\n", b'{"kind": "other"}'])
@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_results_replace_results_only(option: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model.engine.{option[2:]}"  # such as an engine's sidecar, or annotations
    path.write_bytes(content)
    refused(bench(tmp_path / "none.onnx", option, path), 6, path.name, "choose another place")
    assert path.read_bytes() == content
    report = make_report(make_row())
    for ours in ("", report.to_json() if option == "--json" else report.to_csv()):
        path.write_text(ours)
        refused(bench(tmp_path / "none.onnx", option, path), 4, "does not exist")  # the artefact, which comes next


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder(artefacts: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    refused(bench(artefacts["fixed"], "--json", folder / "results.json"), 6, "cannot be written")


def test_a_copy_gets_a_name_of_its_own(artefacts: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copy(artefacts["fixed"], tmp_path)
    result = bench(artefacts["fixed"], copy, "--rounds", 1, "--warmup", 0, "--json", "-")
    assert [row["name"] for row in json.loads(result.stdout)["rows"]] == [
        artefacts["fixed"].stem,
        f"{artefacts['fixed'].stem} (2)",
    ]


def test_running_needs_no_torch(artefacts: dict[str, Path]) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from sparse_detr_deploy.benchmarks.cli import main\n"
        "main(sys.argv[1:])"
    )
    arguments = ["run", str(artefacts["fixed"]), "--rounds", "1", "--threads", "1", "--json", "-"]
    finished = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert len(json.loads(finished.stdout)["rows"]) == 1


def test_memory_is_of_the_artefact_alone(results: tuple[Path, Result]) -> None:
    # Linux hands ru_maxrss down to children, and this process, which has exported networks, is larger than they are
    for row in Report.read(results[0] / "results.json").rows:
        assert row.peak_memory_mib is not None
        assert row.peak_memory_mib < own_peak()
