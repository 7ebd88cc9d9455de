"""A real engine on a real GPU, with torch's and cupy's arrays. Everything here skips where there is none.

What has ``real_driver`` in its name needs no TensorRT.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy import BackendError, Detector, InputError
from sparse_detr_deploy.cuda import LEGACY_STREAM, CudaError, Device, DeviceBuffer, Event, Graph, HostBuffer, Stream
from sparse_detr_deploy.export.pipeline import export_artefacts
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.runners.device_arrays import DeviceArray, Lease, view
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.conftest import SIZE
from tests.matching import arrays, assert_same_detections

pytestmark = pytest.mark.gpu
IMAGES = [synthetic_image(seed, *SIZE) for seed in range(3)]


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    try:
        device = Device(0)
    except BackendError as error:
        pytest.skip(str(error))
    yield device
    device.close()


@pytest.fixture(scope="module")
def flavour() -> str:
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return name.replace("_", "-")
    pytest.skip("neither tensorrt nor tensorrt_rtx is installed")


@pytest.fixture(scope="module", params=["dense", "dynamic"])
def files(
    request: pytest.FixtureRequest,
    device: Device,
    flavour: str,
    tiny_model: SparseDETR,
    dense_model: SparseDETR,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """An ONNX file and the engine of it, built for this GPU from standard ops."""
    folder = tmp_path_factory.mktemp("engine")
    dynamic = request.param == "dynamic"
    spec = ExportSpec(*SIZE, num_detections=20, dynamic_rho=dynamic, batch=(1, 1, 2))
    onnx = export_artefacts(tiny_model if dynamic else dense_model, [spec], folder)[0].path
    how = ["--target", device.capability] if flavour == "tensorrt-rtx" else ["--allow-fallback"]
    command = [sys.executable, "-m", "sparse_detr_deploy.export.cli", str(onnx), "--output", str(folder)]
    result = subprocess.run(
        [*command, "--engine", flavour, "--json", *how], capture_output=True, text=True, check=False, timeout=300
    )
    if result.returncode == 2:
        pytest.skip(f"{flavour} does not build for {device.capability}: {result.stderr.strip()[-300:]}")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)
    return onnx, onnx.with_suffix(".engine")


def test_the_layer_on_the_real_driver(device: Device) -> None:
    with device.current():
        stream, buffer = Stream(device), DeviceBuffer(device, 4096)
        source, back = np.arange(1024, dtype=np.float32), np.zeros(1024, dtype=np.float32)
        stream.upload(buffer.address, source.ctypes.data, source.nbytes)
        stream.download(back.ctypes.data, buffer.address, source.nbytes)
        stream.synchronize()
        np.testing.assert_array_equal(source, back)
        assert device.location(buffer.address) == device.index
        assert device.location(source.ctypes.data) is None
        buffer.close()
        stream.close()


def test_a_graph_on_the_real_driver(device: Device) -> None:
    source = np.arange(1024, dtype=np.float32)
    with device.current(), contextlib.ExitStack() as kept:
        stream, memory = Stream(device), DeviceBuffer(device, source.nbytes)
        there, back = (HostBuffer(device, source.nbytes) for _ in range(2))
        start, end = (Event(device, timing=True) for _ in range(2))
        graphs: list[Graph] = []
        with stream.capturing(graphs):
            stream.upload(memory.address, there.address, source.nbytes)
            stream.download(back.address, memory.address, source.nbytes)
        for thing in (stream, memory, there, back, start, end, *graphs):
            kept.callback(thing.close)
        for factor in (1, 2):
            there.array(source.shape, "f4")[...] = factor * source
            start.record(stream.address)
            graphs[0].launch(stream.address)
            end.record(stream.address)
            stream.synchronize()
            np.testing.assert_array_equal(back.array(source.shape, "f4"), factor * source)
            assert end.milliseconds_since(start) > 0
        with pytest.raises(CudaError), stream.capturing(graphs):
            stream.synchronize()  # not allowed: the capture is lost, the stream is not
        stream.upload(memory.address, there.address, source.nbytes)
        stream.synchronize()
        assert len(graphs) == 1


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_arrays_of_others_on_the_real_driver(library: str, device: Device) -> None:
    module: Any = pytest.importorskip(library)
    if library == "torch" and not module.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    large = 1 << 24  # the producer's work takes longer than the calls
    given = module.ones(large, dtype=module.float32, device="cuda") if library == "torch" else module.ones(large, "f4")
    for _ in range(50):
        given = given + 1
    with device.current():
        stream = Stream(device)
        found = view(given, "x", device, stream)
        assert found.shape == (large,)
        assert found.dtype == np.float32
        output = DeviceArray(found.address, found.shape, found.dtype, stream, Lease(), synced=False)
        np.testing.assert_array_equal(output.to_host(), 51)
    taken = module.from_dlpack(output)
    assert float(taken.sum()) == pytest.approx(51 * large, rel=1e-3)
    assert LEGACY_STREAM in output._lease.consumers
    del taken, given
    found.release()
    stream.close()


BEFORE_AND_AFTER = """
import numpy as np
from sparse_detr_deploy.cuda import Device, DeviceBuffer, Stream
for _ in range(3):
    device = Device(0)
    with device.current():
        buffer, stream = DeviceBuffer(device, 1 << 20), Stream(device)
        stream.upload(buffer.address, np.zeros(1 << 18, np.float32).ctypes.data, 1 << 20)
        stream.synchronize()
        stream.close()
        buffer.close()
    device.close()
"""
TWICE = """
import sys
import numpy as np
from sparse_detr_deploy import Detector
from sparse_detr_deploy.synthetic_image import synthetic_image
found = []
for _ in range(3):
    with Detector.load(sys.argv[1]) as detector:
        image = synthetic_image(0, detector.metadata.height, detector.metadata.width)
        found += [detector(image).scores for _ in range(3)]
for scores in found:
    np.testing.assert_allclose(scores, found[0], atol=1e-5)
"""


def run_alone(program: str, *arguments: str) -> None:
    """In a process where nothing else holds the GPU's primary context."""
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]


def test_a_context_that_is_made_again_on_the_real_driver(device: Device) -> None:
    run_alone(BEFORE_AND_AFTER)


def test_an_engine_that_is_loaded_again(files: tuple[Path, Path]) -> None:
    """The last to close releases the primary context, which TensorRT's own state lives in."""
    run_alone(TWICE, str(files[1]))


def test_the_same_detections(files: tuple[Path, Path]) -> None:
    onnx, engine = files
    with Detector.load(onnx) as reference, Detector.load(engine) as detector:
        for _ in range(3):  # enqueued, captured, launched
            for image in IMAGES:
                assert_same_detections(arrays(reference(image)), arrays(detector(image)))
            for one, other in zip(reference(IMAGES), detector(IMAGES), strict=True):
                assert_same_detections(arrays(one), arrays(other))
        assert not detector.describe()["cuda_graphs"].startswith("failed")


def test_clones_in_threads(files: tuple[Path, Path]) -> None:
    with Detector.load(files[1]) as detector:
        expected = [arrays(detector(image)) for image in IMAGES]
        clones = [detector.clone() for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            for found in pool.map(lambda clone: [clone(image) for image in IMAGES * 4], clones):
                for index, one in enumerate(found):
                    assert_same_detections(expected[index % len(IMAGES)], arrays(one))
        for clone in clones:
            clone.close()


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_arrays_that_stay_on_the_gpu(library: str, files: tuple[Path, Path]) -> None:
    module: Any = pytest.importorskip(library)
    if library == "torch" and not module.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    with TensorRTRunner(files[1]) as runner:
        feed = Detector(runner).preprocess([IMAGES[0]])
        expected = runner.run(feed)
        if library == "torch":
            image, stream = module.from_numpy(feed["images"]).cuda(), module.cuda.current_stream().cuda_stream
        else:
            image, stream = module.asarray(feed["images"]), module.cuda.get_current_stream().ptr
        for _ in range(4):
            for options in ({}, {"stream": stream}):
                found = runner.run_device({**feed, "images": image + 0}, **options)
                scores = module.from_dlpack(found["scores"])
                scores = scores.cpu().numpy() if library == "torch" else module.asnumpy(scores)
                np.testing.assert_allclose(scores, expected["scores"], atol=1e-5)
        with pytest.raises(InputError, match="images is float16"):
            runner.run({**feed, "images": image.half() if library == "torch" else image.astype("float16")})


def test_stage_times(files: tuple[Path, Path]) -> None:
    with TensorRTRunner(files[1]) as runner:
        runner.record_stages()
        for _ in range(3):
            runner.run(Detector(runner).preprocess([IMAGES[0]]))
            times = runner.stage_times()
        assert min(times.upload, times.compute, times.download, times.enqueue) > 0
        assert runner.device_memory_mib() > 0
