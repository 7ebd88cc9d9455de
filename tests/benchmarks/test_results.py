"""Files of results: what is written, and damaged ones, which are refused with a reason."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.benchmarks.engine_timing import EngineResult, StageSamples, Throughput
from sparse_detr_deploy.benchmarks.gpu_clocks import ClockSamples
from sparse_detr_deploy.benchmarks.measuring import Samples
from sparse_detr_deploy.benchmarks.results import KIND, SCHEMA_VERSION, Report
from sparse_detr_deploy.errors import InputError
from tests.benchmarks.conftest import make_report, make_row, unreadable

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
NUMBERS = {"min": 1.0, "mean": 1.0, "max": 1.0}


def whole() -> Report:
    """A row of a file with AP, and one of a throttled engine."""
    stages = StageSamples([0.0] * 12, [5.0] * 12, [0.1] * 12, [0.2] * 12)
    engine = EngineResult(stages, [Throughput(2, 90.0)], ClockSamples(2, *[NUMBERS] * 4, {"power cap": 0.5}), 512.0)
    accuracy = {"AP": 0.5, "AP_large": None, "images": 3}
    return make_report(make_row(accuracy=accuracy), make_row(name="engine", engine=engine, rho=None))


def first(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["rows"][0].update(values)


def inference(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["rows"][0]["samples_ms"].update(inference=value)


def engine(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["rows"][1]["engine"].update(values)


def top(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (inference("fast"), "samples_ms"),
        (inference(["1.0"] * 12), "samples_ms"),
        (inference([0.0] * 12), "samples_ms"),
        (inference([-1.0] * 12), "samples_ms"),
        (inference([float("nan")] * 12), "samples_ms"),
        (inference([1.0] * 11 + [float("inf")]), "samples_ms"),
        (inference([True] * 12), "samples_ms"),
        (inference([]), "samples_ms"),
        (inference([5e-324] * 12), "samples_ms"),  # whose ratio to others is infinite
        (inference([1e308] * 12), "samples_ms"),
        (first(batch=2**40), "batch"),
        (first(peak_memory_mib=5e-324), "peak_memory_mib"),
        (first(accuracy={"AP": 1e300}), "accuracy"),
        (engine(stages_ms={stage: [1e308] for stage in ("upload", "compute", "download", "enqueue")}), "stages"),
        (top(schema_version=True), "schema"),
        (top(schema_version=-3), "schema"),
        (inference([1.0] * 11), "samples_ms"),
        (first(samples_ms=None), "samples_ms"),
        (first(samples_ms={"inference": [1.0]}), "samples_ms"),
        (first(rho=[0.3]), "rho"),
        (first(rho=2), "rho"),
        (first(rho=0), "rho"),
        (first(rho=float("nan")), "rho"),
        (first(name=["a"]), "name"),
        (first(batch=0), "batch"),
        (first(batch=2**31 + 1), "batch"),
        (first(batch=True), "batch"),
        (first(batch="1"), "batch"),
        (first(height=None), "height"),
        (first(precision=3), "precision"),
        (first(runtime=None), "runtime"),
        (first(gmacs="many"), "gmacs"),
        (first(peak_memory_mib="300"), "peak_memory_mib"),
        (first(peak_memory_mib=float("nan")), "peak_memory_mib"),
        (first(accuracy=["AP"]), "accuracy"),
        (first(accuracy={"AP": "0.5"}), "accuracy"),
        (first(accuracy={"AP": float("nan")}), "accuracy"),
        (first(engine=[]), "engine"),
        (first(surplus=1), "surplus"),
        (engine(stages_ms={"upload": [1.0]}), "stages_ms"),
        (engine(stages_ms=None), "stages_ms"),
        (engine(stages_ms={stage: [float("nan")] for stage in ("upload", "compute", "download", "enqueue")}), "stages"),
        (engine(clocks=[1]), "clocks"),
        (engine(clocks={"count": 1}), "clocks"),
        (engine(stages_ms={stage: [-1.0] for stage in ("upload", "compute", "download", "enqueue")}), "stages"),
        (engine(throughput=3), "throughput"),
        (engine(throughput=[{"contexts": 1}]), "throughput"),
        (engine(throughput=[{"contexts": "1", "images_per_second": 3.0}]), "throughput"),
        (engine(device_memory_mib="512"), "device_memory_mib"),
        (top(settings=[]), "settings"),
        (top(environment=None), "environment"),
        (top(left_out="a file"), "left_out"),
        (top(rows={}), "rows"),
        (top(rows=[3]), "row 1"),
        (top(rows=[None]), "row 1"),
    ],
)
def test_damaged_results(change: Callable[[dict[str, Any]], None], named: str, tmp_path: Path) -> None:
    document = json.loads(whole().to_json())
    change(document)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"damaged\.json are damaged") as caught:
        Report.read(path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        first(rho=1),
        first(rho=None),
        first(batch=2**31),
        first(gmacs=None),
        first(accuracy=None),
        inference([1e-9] * 12),
    ],
)
def test_the_ends_of_what_is_taken(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    document = json.loads(whole().to_json())
    change(document)
    path = tmp_path / "sound.json"
    path.write_text(json.dumps(document))
    assert len(Report.read(path).rows) == 2


@pytest.mark.parametrize("key", ["rows", "settings", "environment", "left_out"])
def test_results_that_lack_something(key: str, tmp_path: Path) -> None:
    document = json.loads(whole().to_json())
    del document[key]
    path = tmp_path / "short.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=key):
        Report.read(path)


def test_deep_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read"):
        Report.read(path)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "latin-1", "absent"])
def test_what_is_no_text_file(kind: str, tmp_path: Path) -> None:
    path = unreadable(kind, tmp_path)
    with pytest.raises(InputError, match=f"the results {path} cannot be read"):
        Report.read(path)


@pytest.mark.parametrize("text", ["[" * 500 + "]" * 500, '{"kind": 1' + "0" * 400 + "}"])
def test_absurd_documents(text: str, tmp_path: Path) -> None:
    path = tmp_path / "absurd.json"
    path.write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        Report.read(path)


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "größe ρ"])
def test_any_name_goes_through_a_file(name: str, tmp_path: Path) -> None:
    report = make_report(make_row(name=name))
    report.settings["images"] = f"4 images of {name}"
    path = tmp_path / "results.json"
    for ascii_only in (True, False):
        path.write_text(report.to_json(ascii_only), encoding="utf-8")
        assert Report.read(path) == report
    assert next(iter(csv.DictReader(io.StringIO(report.to_csv()))))["name"].encode("utf-8")


def test_damaged_results_at_the_command_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(whole().to_json())
    document = json.loads(whole().to_json())
    document["rows"][1]["samples_ms"]["inference"][4] = 0
    bad.write_text(json.dumps(document))
    result = CliRunner().invoke(main, ["compare", str(good), str(bad)], catch_exceptions=False)
    assert result.exit_code == 2
    assert "row 2 (engine)" in result.stderr


def test_whole_results_come_back(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(whole().to_json())
    assert Report.read(path) == whole()


@pytest.mark.committed
def test_committed_results_are_readable() -> None:
    ours = [path for path in RESULTS.rglob("*.json") if f'"kind": "{KIND}"' in path.read_text(encoding="utf-8")[:100]]
    assert ours
    for path in ours:
        assert Report.read(path).rows


def test_throttling_shows_in_the_csv_table() -> None:
    lines = list(csv.DictReader(io.StringIO(whole().to_csv())))
    assert [line["stability"] for line in lines] == ["stable", "throttled (power cap)"]


def test_each_part_has_its_own_columns() -> None:
    samples = Samples([1.0, 2.0], [10.0, 20.0], [100.0, 200.0])
    row = make_row(samples_ms=samples, batch=2, accuracy={"AP": 0.5, "AP50": 0.75, "images": 3})
    columns = row.to_csv()
    for part, median in (("preprocess", 1.5), ("inference", 15.0), ("postprocess", 150.0), ("total", 166.5)):
        assert columns[f"{part}_p50_ms"] == columns[f"{part}_mean_ms"] == median
        assert columns[f"{part}_fps"] == pytest.approx(2000 / median)
        assert row.to_dict()["statistics"][part]["p50_ms"] == median
    assert (columns["backend"], columns["rounds"], columns["AP"], columns["AP50"]) == ("onnxruntime", 2, 0.5, 0.75)
    assert (columns["stability"], columns["window_spread"]) == ("too few rounds", None)
    assert not {"runtime", "samples_ms", "accuracy", "engine"} & set(columns)
    assert make_row([100.0] * 6 + [150.0] * 3).to_csv()["window_spread"] == pytest.approx(0.5)


def test_stability_is_of_the_inference_times() -> None:
    steady, moving = [100.0] * 9, [100.0] * 3 + [200.0] * 6
    assert make_row(samples_ms=Samples(moving, steady, moving)).is_stable
    assert not make_row(samples_ms=Samples(steady, moving, steady)).is_stable


def test_what_speaks_against_a_row_is_said_together() -> None:
    engine = whole().rows[1].engine
    assert make_row([1.0] * 3, engine=engine).verdict == "too few rounds, throttled (power cap)"


def test_results_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "newer.json"
    path.write_text(json.dumps(json.loads(whole().to_json()) | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(InputError, match="has results of schema 2; this version reads up to 1: upgrade"):
        Report.read(path)
