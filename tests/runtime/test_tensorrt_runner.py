"""Engines in the detector, on a fake GPU whose engines are ONNX files that ONNX Runtime runs.

What these tests promise is that the runner keeps the rules of CUDA and TensorRT, not what a GPU computes.
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy import ArtefactError, BackendError, Detector, InputError
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner
from tests.fakes.gpu import COMPUTE_MS
from tests.fakes.machine import ForeignArray, Machine, fake_machine
from tests.fakes.tensorrt_types import CudaGraphStrategy
from tests.matching import arrays, assert_same_detections
from tests.runtime.engine_cases import IMAGES, VARIANTS, Make, assert_same_outputs, feed_of


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_detections_as_the_file_it_was_built_from(
    variant: str, exported: dict[str, Path], make: Make, machine: Machine
) -> None:
    with (
        Detector.load(exported[variant]) as expected,
        Detector.load(make(variant)) as engine,
    ):
        assert engine.metadata == expected.metadata
        for repeat in range(3):  # the second run captures, the third launches the graph
            for image in IMAGES:
                assert_same_detections(arrays(expected(image)), arrays(engine(image)), 1e-5, 1e-3)
            assert (machine.gpu.launches > 0) == (repeat > 0 or len(IMAGES) > 2)
        found = engine(IMAGES)
        for image, one in zip(IMAGES, found, strict=True):
            assert_same_detections(arrays(expected(image)), arrays(one), 1e-5, 1e-3)


def test_every_keep_ratio_of_a_dynamic_engine(exported: dict[str, Path], make: Make, machine: Machine) -> None:
    with (
        Detector.load(exported["dynamic"]) as expected,
        Detector.load(make("dynamic")) as engine,
    ):
        for _ in range(3):
            for ratio in (0.01, 0.1, 0.77, 1.0):
                one, other = (detector(IMAGES[0], keep_ratio=ratio) for detector in (expected, engine))
                assert_same_detections(arrays(one), arrays(other), 1e-5, 1e-3)
        assert (machine.gpu.captures, machine.gpu.launches) == (4, 4)


@pytest.mark.parametrize("graphs", [True, False])
def test_tensorrt_rtx_makes_its_graphs_itself(graphs: bool, make: Make) -> None:
    with fake_machine("tensorrt-rtx", "1.7.1.116") as machine:
        path = make("dynamic", flavour="tensorrt-rtx", version="1.7.1.116")
        with Detector.load(path, cuda_graphs=graphs) as detector:
            for ratio in (0.1, 0.1, 0.1, 0.5):
                assert len(detector(IMAGES[0], keep_ratio=ratio)) == 20
            described = detector.describe()
            clone = detector.clone()
            clone.close()
        assert machine.trt.strategies == [CudaGraphStrategy(int(graphs))] * 2
        assert machine.gpu.captures == 0
        assert described["backend"] == "tensorrt-rtx"
        assert described["cuda_graphs"] == ("by TensorRT-RTX" if graphs else "off")


def test_what_runs_is_said(make: Make, machine: Machine) -> None:
    with Detector.load(make()) as detector:
        assert detector.describe() == {
            "backend": "tensorrt",
            "version": "10.16.1.11",
            "providers": ["GPU 0"],
            "device": "Fake GPU",
            "capability": "sm89",
            "precision": "fp32",
            "attention": "standard ops",
            "selection": "top-k",
            "plugins": "none",
            "cuda_graphs": "on",
        }


def test_graphs_are_captured_when_something_comes_again(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make("batched"), max_graphs=2) as runner:
        feeds = {batch: feed_of(runner, batch=batch) for batch in (1, 2, 3)}
        expected = {batch: runner.run(feed) for batch, feed in feeds.items()}
        assert machine.gpu.captures == 0
        for batch in (1, 2):
            assert_same_outputs(expected[batch], runner.run(feeds[batch]))
        assert (machine.gpu.captures, machine.gpu.launches) == (2, 0)
        for batch in (2, 1):
            assert_same_outputs(expected[batch], runner.run(feeds[batch]))
        assert (machine.gpu.captures, machine.gpu.launches) == (2, 2)
        assert_same_outputs(expected[3], runner.run(feeds[3]))  # takes the place of 2, which was used longest ago
        assert len(machine.gpu.executables) == 2
        assert_same_outputs(expected[1], runner.run(feeds[1]))
        assert_same_outputs(expected[2], runner.run(feeds[2]))
        assert (machine.gpu.captures, machine.gpu.launches) == (3, 3)


def test_without_graphs(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make(), cuda_graphs=False) as runner:
        feed = feed_of(runner)
        outputs = [runner.run(feed) for _ in range(4)]
        assert_same_outputs(outputs[0], outputs[3])
        assert runner.describe()["cuda_graphs"] == "off"
    assert machine.gpu.captures == 0


def test_engines_that_cannot_be_captured_run_without(
    make: Make, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.trt.capturable = False
    with TensorRTRunner(make("batched")) as runner:
        for batch in (1, 2, 1, 2, 1, 2):
            feed = feed_of(runner, batch=batch)
            assert_same_outputs(runner.run(feed), runner.run(feed))
        assert "not permitted when stream is capturing" in runner.describe()["cuda_graphs"]
    assert len([record for record in caplog.records if "without CUDA graphs" in record.message]) == 1
    assert machine.gpu.captures == 0


def test_no_room_for_a_second_context(make: Make, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.trt.contexts_left = 1
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        outputs = [runner.run(feed) for _ in range(3)]
        assert_same_outputs(outputs[0], outputs[2])
    assert "without CUDA graphs from now on" in caplog.text


def test_a_forked_process_is_told_so(make: Make, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        with monkeypatch.context() as forked:
            forked.setattr("os.getpid", lambda: -1)
            for call in (lambda: runner.run(feed), runner.clone):
                with pytest.raises(BackendError, match="before this process was forked.*'spawn'"):
                    call()
        runner.run(feed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "images is a NoneType"),
        ({"images": np.zeros((1, 3, 96, 128))}, "images is float64, but the engine takes float32"),
        ({"images": np.zeros((1, 3, 5, 5), np.float32)}, r"images is 1 × 3 × 5 × 5.*takes 1–4 × 3 × 96 × 128"),
        ({"images": np.zeros((5, 3, 96, 128), np.float32)}, "5 × 3 × 96 × 128.*--batch"),
        ({"images": np.zeros((0, 3, 96, 128), np.float32)}, "0 × 3"),
        ({"images": np.zeros((3, 96, 128), np.float32)}, "images is 3 × 96 × 128"),
        ({"images": np.float32(1)}, "images is a float32"),
        ({"more": np.zeros(1)}, "the inputs are images, more, but the engine takes images"),
    ],
)
def test_inputs_that_are_refused(change: dict[str, Any], message: str, make: Make, machine: Machine) -> None:
    with TensorRTRunner(make("batched")) as runner:
        feed = feed_of(runner)
        for _ in range(2):
            runner.run(feed)
        queue = machine.gpu.streams[runner._execution.stream.address]
        with pytest.raises(InputError, match=message):
            runner.run({**feed, **change})
        with pytest.raises(InputError, match="the inputs are none"):
            runner.run({})
        assert queue.pending == []
        runner.run(feed)


def test_kept_tokens_that_are_refused(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make("dynamic")) as runner:
        feed = feed_of(runner)
        for count in (0, -1, 10**6):
            with pytest.raises(InputError, match="num_keep is"):
                runner.run({**feed, "num_keep": np.array([count])})
        on_gpu = ForeignArray(machine, feed["num_keep"], "dlpack")
        with pytest.raises(InputError, match="num_keep is a shape tensor.*NumPy"):
            runner.run({**feed, "num_keep": on_gpu})
        on_gpu.free()
        assert len(runner.run(feed)["boxes"]) == 1


def test_a_count_that_the_caller_changes_afterwards(make: Make, machine: Machine) -> None:
    """TensorRT reads shape values again at every run, so the runner keeps its own."""
    with TensorRTRunner(make("dynamic"), cuda_graphs=False) as runner:
        feed, given = feed_of(runner), np.array([200])
        expected = runner.run({**feed, "num_keep": given})
        given[:] = 3
        assert_same_outputs(expected, runner.run({**feed, "num_keep": np.array([200])}))
        fewer = runner.run({**feed, "num_keep": given})
        assert not np.array_equal(fewer["scores"], expected["scores"])


def test_what_tensorrt_refuses_leaves_the_runner_as_it_was(make: Make, machine: Machine) -> None:
    """Here a shape that our own check let through: the context is bound anew for what comes."""
    with TensorRTRunner(make("batched"), cuda_graphs=False) as runner:
        feeds = [feed_of(runner, seed, batch=2) for seed in (0, 1)]
        expected = runner.run(feeds[1])
        runner.run(feeds[0])
        machine.trt.refuses_shapes = True
        with pytest.raises(InputError, match="does not take images 1 × 3 × 96 × 128: the inputs"):
            runner.run(feed_of(runner))
        machine.trt.refuses_shapes = False
        assert_same_outputs(expected, runner.run(feeds[1]))


def test_several_threads_share_a_runner(make: Make, machine: Machine) -> None:
    with Detector.load(make("batched")) as detector:
        alone = [detector(image) for image in IMAGES]
        with ThreadPoolExecutor(3) as pool:
            for index, found in enumerate(pool.map(detector, IMAGES * 3)):
                assert_same_detections(arrays(alone[index % len(IMAGES)]), arrays(found), 1e-6, 1e-3)


def test_clones_run_beside_each_other_on_one_engine(make: Make, machine: Machine) -> None:
    with Detector.load(make()) as detector:
        alone = [detector(image) for image in IMAGES]
        clones = [detector.clone() for _ in range(2)]
        assert machine.gpu.engines == 1
        assert len({id(clone.runner) for clone in (detector, *clones)}) == 3
        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(lambda d=d: [d(image) for image in IMAGES * 2]) for d in (detector, *clones)]
            for job in jobs:
                for index, found in enumerate(job.result()):
                    assert_same_detections(arrays(alone[index % len(IMAGES)]), arrays(found), 1e-6, 1e-3)
        detector.close()
        assert machine.gpu.engines == 1
        assert len(clones[0](IMAGES[0])) == 20
        with pytest.raises(BackendError, match="closed"):
            detector.clone()
        for clone in clones:
            clone.close()
        assert machine.gpu.engines == 0


def test_other_backends_are_not_cloned(exported: dict[str, Path]) -> None:
    with (
        Detector.load(exported["fixed"]) as detector,
        pytest.raises(BackendError, match="onnxruntime runs one detector in several threads at once: share it"),
    ):
        detector.clone()


def test_closing(make: Make, machine: Machine) -> None:
    runner = TensorRTRunner(make())
    feed = feed_of(runner)
    runner.run(feed)
    runner.run_device(feed, stream=0)
    runner.close()
    runner.close()
    machine.nothing_is_left()
    for call in (lambda: runner.run(feed), lambda: runner.run_device(feed), runner.clone, runner.device_memory_mib):
        with pytest.raises(BackendError, match="closed"):
            call()


def test_a_runner_that_is_dropped_frees_what_it_held(make: Make, machine: Machine) -> None:
    runner = TensorRTRunner(make())
    runner.run(feed_of(runner))
    del runner
    gc.collect()
    machine.nothing_is_left()


def test_stages_are_timed(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        with pytest.raises(BackendError, match="record_stages"):
            runner.stage_times()
        runner.record_stages()
        runner.record_stages()
        for _ in range(3):  # enqueued, captured, launched
            runner.run(feed)
            times = runner.stage_times()
            assert times.compute == pytest.approx(COMPUTE_MS)
            assert times.upload == pytest.approx(feed["images"].nbytes / 2**20 / 10)
            assert 0 < times.download < times.upload
            assert times.enqueue > 0


def test_device_memory(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        assert runner.device_memory_mib() == pytest.approx(machine.gpu.used / 2**20)
        assert runner.pci_bus_id == "0000:01:00.0"


def test_a_run_that_fails(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        machine.trt.enqueue_works = False
        with pytest.raises(BackendError, match="TensorRT cannot run it .*illegal memory access"):
            runner.run(feed)
        machine.trt.enqueue_works = True
        for _ in range(3):
            assert_same_outputs(runner.run(feed), runner.run(feed))


def test_backends_and_suffixes(make: Make, exported: dict[str, Path], machine: Machine) -> None:
    path = make()
    with Detector.load(path, "tensorrt") as detector:
        assert detector.describe()["backend"] == "tensorrt"
    with pytest.raises(InputError, match="is a TensorRT engine, which openvino does not run"):
        Detector.load(path, "openvino")
    with pytest.raises(InputError, match="--engine tensorrt"):
        Detector.load(exported["fixed"], "tensorrt")
    with pytest.raises(ArtefactError, match=r"no\.engine does not exist"):
        Detector.load(path.with_name("no.engine"))
    with pytest.raises(InputError, match="max_graphs"):
        Detector.load(path, max_graphs=0)
