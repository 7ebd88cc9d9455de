"""Engines in ``sparse-detr-bench run``, on a fake GPU with a clock of its own."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparse_detr_deploy import Detector
from sparse_detr_deploy.benchmarks import engine_bench, memory, running
from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.benchmarks.contenders import Runtime
from sparse_detr_deploy.benchmarks.engine_bench import EngineBench
from sparse_detr_deploy.benchmarks.engine_timing import EngineResult, StageSamples, Throughput, measure_throughput
from sparse_detr_deploy.benchmarks.gpu_clocks import ClockSampler, ClockSamples
from sparse_detr_deploy.benchmarks.memory import Peaks
from sparse_detr_deploy.benchmarks.results import Report
from sparse_detr_deploy.engine_record import PluginRecord
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner
from tests.benchmarks.conftest import make_report, make_row
from tests.fakes.engine_files import fake_engine
from tests.fakes.gpu import COMPUTE_MS
from tests.fakes.machine import Machine, fake_machine
from tests.fakes.nvml import FakeNvml


@pytest.fixture(scope="module")
def engines(artefacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fake engines of the tiny files."""
    folder = tmp_path_factory.mktemp("engines")
    return {name: fake_engine(path, folder / f"{path.stem}.engine") for name, path in artefacts.items()}


@pytest.fixture
def machine(engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A child process would not have the fakes, so memory is not measured in one."""
    monkeypatch.setattr(running, "peak_memory", lambda contender, runtime: Peaks(300.0, 40.0))
    with fake_machine() as machine:
        yield machine


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    def install(**options: Any) -> FakeNvml:
        fake = FakeNvml(**options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install


def bench(*arguments: object) -> Result:
    threads = ["--threads=1"] if any(str(argument).endswith(".onnx") for argument in arguments) else []
    return CliRunner().invoke(main, ["run", *threads, *map(str, arguments)], catch_exceptions=False)


def test_a_run_of_engines_and_files(
    engines: dict[str, Path],
    artefacts: dict[str, Path],
    machine: Machine,
    nvml: Callable[..., FakeNvml],
    tmp_path: Path,
) -> None:
    fake = nvml()
    outputs = [f"--{name}={tmp_path / f'results.{name}'}" for name in ("json", "csv")]
    result = bench(
        engines["fixed"], engines["dynamic"], artefacts["fixed"], "--keep-ratio=0.1", "--keep-ratio=0.5",
        "--rounds=9", "--warmup=3", "--contexts=1,2", *outputs,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = Report.read(tmp_path / "results.json")
    assert [(row.name, row.rho, row.runtime["backend"]) for row in report.rows] == [
        (engines["fixed"].stem, 0.3, "tensorrt"),
        (engines["dynamic"].stem, 0.1, "tensorrt"),
        (engines["dynamic"].stem, 0.5, "tensorrt"),
        (f"{engines['fixed'].stem} (2)", 0.3, "onnxruntime"),
    ]
    assert report.rows[0].sha256 == sha256_of(engines["fixed"])
    assert report.rows[3].engine is None
    for row in report.rows[:3]:
        assert row.engine is not None
        assert row.engine.stages_ms.compute == pytest.approx([COMPUTE_MS] * 9)
        assert len(row.engine.stages_ms.upload) == len(row.engine.stages_ms.enqueue) == 9
        assert [found.contexts for found in row.engine.throughput] == [1, 2]
        assert row.engine.clocks is not None
        assert row.engine.clocks.sm_mhz == {"min": 1500.0, "mean": 1500.0, "max": 1500.0}
        assert row.engine.clocks.power_w["max"] == 350.0
        assert row.engine.device_memory_mib == 40.0
    assert fake.users == 0
    document = json.loads((tmp_path / "results.json").read_text())
    assert "engine" not in document["rows"][3]
    assert document["rows"][0]["engine"]["statistics"]["compute"]["p50_ms"] == pytest.approx(COMPUTE_MS)
    assert "CUDA events" in document["settings"]["engine_stages"]["compute"]
    lines = list(csv.DictReader((tmp_path / "results.csv").open(newline="")))
    assert float(lines[0]["gpu_compute_p50_ms"]) == pytest.approx(COMPUTE_MS)
    assert lines[3]["gpu_compute_p50_ms"] == ""
    assert report.rows[0].engine is not None
    for found in report.rows[0].engine.throughput:
        assert float(lines[0][f"images_per_second_{found.contexts}_contexts"]) == found.images_per_second
    for text in ("Engines", "images/s × 2", "Fake GPU", "1500"):
        assert text in result.stderr


def test_a_run_of_files_says_nothing_of_engines(artefacts: dict[str, Path], machine: Machine) -> None:
    result = bench(artefacts["fixed"], "--rounds=1", "--warmup=0", "--json=-")
    document = json.loads(result.stdout)
    assert "engine" not in document["rows"][0]
    assert not {"engine_stages", "device", "cuda_graphs"} & set(document["settings"])
    assert "Engines" not in result.stderr


def test_throttled_rows_are_flagged(
    engines: dict[str, Path], machine: Machine, nvml: Callable[..., FakeNvml], tmp_path: Path
) -> None:
    nvml(reasons=(0x4 | 0x20,))
    table = tmp_path / "results.csv"
    result = bench(engines["fixed"], "--rounds=9", "--contexts=1", "--json=-", f"--csv={table}")
    (row,) = json.loads(result.stdout)["rows"]
    assert row["engine"]["clocks"]["throttled"] == {"power cap": 1.0, "software thermal slowdown": 1.0}
    assert "throttled: power cap in 100 % of the samples" in " ".join(result.stderr.split())
    (line,) = csv.DictReader(table.open(newline=""))
    assert line["stability"].endswith("throttled (power cap, software thermal slowdown)")


def test_only_the_row_that_is_throttled_is_flagged(
    engines: dict[str, Path], machine: Machine, nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = nvml()
    hot: list[int] = []

    def reasons(handle: str) -> int:
        fake.samples += 1
        return 0x4 if hot else 0

    monkeypatch.setattr(fake, "nvmlDeviceGetCurrentClocksEventReasons", reasons)
    monkeypatch.setattr(engine_bench, "ClockSampler", functools.partial(ClockSampler, interval_s=0.001))
    preprocess = Detector.preprocess

    def slow(detector: Detector, *arguments: Any, **options: Any) -> Any:
        """Long enough for a whole sample; hot from the call before, which does not count."""
        hot[:] = [1] * (detector.metadata.rho is not None)
        enough = fake.samples + 4
        while fake.samples < enough:
            time.sleep(0.001)
        return preprocess(detector, *arguments, **options)

    monkeypatch.setattr(Detector, "preprocess", slow)
    monkeypatch.setattr(EngineBench, "measure_throughput", lambda *arguments: None)  # its calls do not count
    result = bench(engines["fixed"], engines["dense"], "--rounds=3", "--warmup=1", "--json=-")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [row["engine"]["clocks"]["throttled"] for row in rows] == [{"power cap": 1.0}, {}]
    assert all(row["engine"]["clocks"]["count"] >= 3 for row in rows)


def test_an_interrupted_throughput_keeps_the_times(
    engines: dict[str, Path], machine: Machine, nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml()

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EngineBench, "measure_throughput", interrupted)
    result = bench(engines["fixed"], "--rounds=2", "--warmup=0", "--json=-")
    assert result.exit_code == 130
    document = json.loads(result.stdout)
    assert document["left_out"] == ["interrupted: throughput not measured"]
    assert document["rows"][0]["engine"]["throughput"] == []


def test_without_cuda_graphs(engines: dict[str, Path], machine: Machine, nvml: Callable[..., FakeNvml]) -> None:
    nvml()
    result = bench(engines["fixed"], "--rounds=2", "--warmup=2", "--contexts=1", "--no-cuda-graphs", "--json=-")
    (row,) = json.loads(result.stdout)["rows"]
    assert row["runtime"]["cuda_graphs"] == "off"
    assert machine.gpu.captures == 0


def test_contexts_that_do_not_fit(engines: dict[str, Path], machine: Machine, nvml: Callable[..., FakeNvml]) -> None:
    nvml()
    machine.trt.contexts_left = 3  # two for the runner with its graph, one for a clone
    result = bench(engines["fixed"], "--rounds=2", "--warmup=2", "--contexts=1,2,4", "--json=-")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert [found["contexts"] for found in row["engine"]["throughput"]] == [1, 2]
    assert "no throughput of 4 contexts or more" in result.stderr.replace("\n", " ")


def test_engines_that_are_refused(engines: dict[str, Path], tmp_path: Path) -> None:
    lonely = tmp_path / "x.engine"
    lonely.write_bytes(engines["fixed"].read_bytes())
    result = bench(lonely)
    assert result.exit_code == 4
    assert "x.engine.json is missing" in result.stderr
    (tmp_path / "x.engine.json").write_text(engines["fixed"].with_name(f"{engines['fixed'].name}.json").read_text())
    lonely.unlink()
    result = bench(lonely)
    assert result.exit_code == 4
    assert "cannot be read" in result.stderr


def detector_image(detector: Detector) -> Any:
    from sparse_detr_deploy.synthetic_image import synthetic_image

    return synthetic_image(0, detector.metadata.height, detector.metadata.width)


def test_a_context_that_fails_is_told(engines: dict[str, Path], machine: Machine) -> None:
    from sparse_detr_deploy import BackendError

    with Detector.load(engines["fixed"], cuda_graphs=False) as detector:
        feed = detector.preprocess([detector_image(detector)])
        run, calls = detector.runner.run, []

        def fails_late(feed: Any) -> Any:
            calls.append(1)
            machine.trt.enqueue_works = len(calls) < 5
            return run(feed)

        detector.runner.run = fails_late  # type: ignore[method-assign]
        with pytest.raises(BackendError, match="cannot run it"):
            measure_throughput(detector.runner, feed, [1], batch=1, rounds=4)  # type: ignore[arg-type]


CLOCKS = ClockSamples(2, *[{"min": 1.0, "mean": 1.0, "max": 1.0}] * 4, throttled={})


def stages(compute: list[float], enqueue: list[float]) -> StageSamples:
    count = len(compute)
    return StageSamples([0.5] * count, compute, [0.1] * count, enqueue)


@pytest.mark.parametrize(
    ("samples", "throttled", "expected"),
    [
        (stages([5.0] * 4, [0.2] * 4), {}, []),
        (stages([5.0] * 4, [5.5] * 4), {}, ["enqueue-bound"]),
        (stages([5.0] * 4, [5.0] * 4), {}, ["enqueue-bound"]),
        (stages([5.0] * 4, [1.0, 4.9, 4.9, 9.0]), {}, []),
        (stages([9.6, 10.0, 10.4] * 9, [0.2] * 27), {}, []),
        (stages([9.2, 10.0, 10.8] * 9, [0.2] * 27), {}, ["GPU times vary by 7 %"]),
        (stages([5.0, 5.0, 5.0, 9.0], [0.2] * 4), {}, ["GPU times vary by"]),
        (stages([5.0] * 4, [0.2] * 4), {"power cap": 0.5}, ["throttled: power cap in 50 %"]),
    ],
)
def test_warnings(samples: StageSamples, throttled: dict[str, float], expected: list[str]) -> None:
    found = EngineResult(samples, [], dataclasses.replace(CLOCKS, throttled=throttled), None).warnings
    assert len(found) == len(expected)
    for text, beginning in zip(found, expected, strict=True):
        assert text.startswith(beginning)


def test_rows_of_engines_come_back_and_are_compared(tmp_path: Path) -> None:
    samples = stages([5.0] * 12, [0.2] * 12)
    clocks = dataclasses.replace(CLOCKS, throttled={"power cap": 0.25})
    engine = EngineResult(samples, [Throughput(2, 90.0)], clocks, 512.0)
    reports = {"old": make_report(make_row()), "new": make_report(make_row(engine=engine))}
    for name, report in reports.items():
        (tmp_path / f"{name}.json").write_text(report.to_json())
    read = Report.read(tmp_path / "new.json")
    assert read == reports["new"]
    assert read.rows[0].verdict == "throttled (power cap)"
    assert not read.rows[0].is_stable
    assert "engine" not in json.loads(reports["old"].to_json())["rows"][0]
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")])
    assert result.exit_code == 0
    assert "throttled (power cap) in the new results" in result.stderr


def test_code_inside_an_engine_runs_only_when_asked(
    artefacts: dict[str, Path], machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the child process that measures memory too."""
    plugin = PluginRecord("libsparse_detr_plugins.so", "1", "0" * 64, serialized=True)
    engine = fake_engine(artefacts["fixed"], tmp_path / "x.engine", plugin=plugin)
    told: list[Runtime] = []
    monkeypatch.setattr(running, "peak_memory", lambda contender, runtime: told.append(runtime) or Peaks(300.0, 40.0))
    command = ["run", str(engine), "--rounds", "1", "--warmup", "0", "--contexts", "1"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 7
    assert "--allow-host-code" in refused.stderr
    assert machine.trt.host_code == []
    allowed = CliRunner().invoke(main, [*command, "--allow-host-code"], catch_exceptions=False)
    assert allowed.exit_code == 0, allowed.stderr
    assert set(machine.trt.host_code) == {True}
    assert [runtime.allow_host_code for runtime in told] == [False, True]
    request = {"path": str(engine), "keep_ratio": None, "batch": 1}
    assert memory._answer({**request, "runtime": vars(Runtime())})["error"] == "BackendError"
    assert "error" not in memory._answer({**request, "runtime": vars(told[1])})


def test_memory_of_an_engine(engines: dict[str, Path], machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child process would answer: of the GPU what is taken there after the second run, with its graph."""
    taken: list[tuple[int, int]] = []
    ask = TensorRTRunner.device_memory_mib

    def asked(runner: TensorRTRunner) -> float:
        taken.append((machine.gpu.used, machine.gpu.captures))
        return ask(runner)

    monkeypatch.setattr(TensorRTRunner, "device_memory_mib", asked)
    monkeypatch.setattr(memory, "own_peak", lambda: 123.0)
    request = {"path": str(engines["fixed"]), "runtime": vars(Runtime()), "keep_ratio": None, "batch": 1}
    answer = memory._answer(request)
    ((used, captures),) = taken
    assert captures == 1
    assert used > engines["fixed"].stat().st_size / 1000
    assert answer == {"device_mib": pytest.approx(used / 2**20), "peak_mib": 123.0}
