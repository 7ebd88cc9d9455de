"""The CUDA layer, on a fake driver that keeps CUDA's rules."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy import BackendError, InputError
from sparse_detr_deploy.cuda import CudaError, Device, DeviceBuffer, Event, Graph, HostBuffer, Stream
from tests.fakes.cuda_driver import FakeDriver
from tests.fakes.cuda_enums import CUresult
from tests.fakes.gpu import POISON
from tests.fakes.machine import Machine, fake_machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    with fake_machine() as machine:
        yield machine


@pytest.fixture
def device(machine: Machine) -> Iterator[Device]:
    device = Device(0)
    with device.current():
        yield device
    device.close()


def test_a_device_tells_what_it_is(device: Device) -> None:
    assert (device.name, device.capability, device.pci_bus_id) == ("Fake GPU", "sm89", "0000:01:00.0")


@pytest.mark.parametrize("index", [-1, 1.0, "0", None, True])
def test_numbers_that_are_no_device(machine: Machine, index: Any) -> None:
    with pytest.raises(InputError, match="not a number of a GPU"):
        Device(index)


def test_a_device_that_is_not_there(machine: Machine) -> None:
    with pytest.raises(BackendError, match=r"no GPU 3: only GPUs 0 to 0 .*CUDA_VISIBLE_DEVICES"):
        Device(3)


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=r"cuda-bindings is not installed.*\[tensorrt\]"):
        Device(0)


def test_no_driver(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: Any) -> Any:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(FakeDriver, "cuInit", absent)
    with pytest.raises(BackendError, match=r"libcuda\.so\.1\): install NVIDIA's driver"):
        Device(0)


def test_a_driver_without_gpus(machine: Machine) -> None:
    machine.driver.fail("cuInit", CUresult.CUDA_ERROR_NO_DEVICE)
    with pytest.raises(CudaError, match="CUDA_ERROR_NO_DEVICE.*nvidia-smi") as caught:
        Device(0)
    assert caught.value.code == "CUDA_ERROR_NO_DEVICE"


def test_the_context_that_was_current_is_again(machine: Machine) -> None:
    machine.driver.stack.append(0x123)  # somebody else's
    device = Device(0)

    def fail() -> None:
        with device.current():
            assert machine.driver.stack == [0x123, 0xC0]
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert machine.driver.stack == [0x123]
    device.close()
    device.close()
    with pytest.raises(BackendError, match="closed"), device.current():
        pass
    machine.driver.stack.clear()


def test_contexts_belong_to_threads(device: Device, machine: Machine) -> None:
    seen: list[list[int]] = []
    thread = threading.Thread(target=lambda: seen.append(list(machine.driver.stack)))
    thread.start()
    thread.join()
    assert seen == [[]]


def test_copies_there_and_back(device: Device) -> None:
    stream, there, source, back = (
        Stream(device),
        DeviceBuffer(device, 64),
        HostBuffer(device, 64),
        HostBuffer(device, 64),
    )
    source.array((4, 2), np.float32)[...] = np.arange(8).reshape(4, 2)
    stream.upload(there.address, source.address, 32)
    stream.download(back.address, there.address, 32)
    assert (back.array((64,), np.uint8) == POISON).all()  # the fake does nothing before it must
    stream.synchronize()
    np.testing.assert_array_equal(back.array((4, 2), np.float32), np.arange(8).reshape(4, 2))
    for thing in (stream, there, source, back):
        thing.close()
        thing.close()
        with pytest.raises(BackendError, match="is closed"):
            _ = thing.address


def test_out_of_memory_says_how_much_there_is(device: Device, machine: Machine) -> None:
    with pytest.raises(
        CudaError, match=r"Fake GPU \(GPU 0\): no device memory for 5000\.0 MiB, 4096 MiB are free.*fp16"
    ):
        DeviceBuffer(device, 5000 << 20)
    machine.driver.fail("cuMemAllocHost", CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(CudaError, match="no page-locked host memory"):
        HostBuffer(device, 1)


def test_where_memory_lies(device: Device, machine: Machine) -> None:
    there, here = DeviceBuffer(device, 8), HostBuffer(device, 8)
    elsewhere = machine.gpu.allocate(8, "other device")
    assert device.location(there.address) == device.location(there.address + 7) == 0
    assert device.location(here.address) is None
    assert device.location(0x1234) is None
    assert device.location(elsewhere) == 1
    del machine.gpu.blocks[elsewhere]
    there.close()
    here.close()


def test_events_tell_time_and_order(device: Device) -> None:
    stream, other = Stream(device), Stream(device)
    there, source, back = DeviceBuffer(device, 1 << 20), HostBuffer(device, 1 << 20), HostBuffer(device, 1 << 20)
    before, after = Event(device, timing=True), Event(device, timing=True)
    source.array((4,), np.int32)[:] = [1, 2, 3, 4]
    before.record(stream.address)
    stream.upload(there.address, source.address, 1 << 20)
    after.record(stream.address)
    other.wait_for(stream.address)
    other.download(back.address, there.address, 16)
    other.synchronize()
    assert back.array((4,), np.int32).tolist() == [1, 2, 3, 4]
    assert after.milliseconds_since(before) == pytest.approx(0.1)
    for thing in (stream, other, there, source, back, before, after):
        thing.close()


def test_a_graph_does_again_what_was_captured(device: Device) -> None:
    stream, there = Stream(device), DeviceBuffer(device, 4)
    source, back, graphs = HostBuffer(device, 4), HostBuffer(device, 4), list[Graph]()
    with stream.capturing(graphs):
        stream.upload(there.address, source.address, 4)
        stream.download(back.address, there.address, 4)
    for value in (5, 6):
        source.array((1,), np.int32)[0] = value
        graphs[0].launch(stream.address)
        stream.synchronize()
        assert back.array((1,), np.int32)[0] == value
    for thing in (stream, there, source, back, *graphs):
        thing.close()


def test_other_threads_are_free_during_a_capture(device: Device) -> None:
    stream, graphs = Stream(device), list[Graph]()

    def allocate() -> None:
        with device.current():
            DeviceBuffer(device, 4).close()

    with stream.capturing(graphs), ThreadPoolExecutor(1) as pool:
        pool.submit(allocate).result()
    for thing in (stream, *graphs):
        thing.close()


def test_only_timed_events_tell_time(device: Device) -> None:
    """The others cost less."""
    stream, events = Stream(device), [Event(device) for _ in range(2)]
    for event in events:
        event.record(stream.address)
    stream.synchronize()
    with pytest.raises(CudaError, match="INVALID_HANDLE"):
        events[1].milliseconds_since(events[0])
    for thing in (stream, *events):
        thing.close()


def test_a_capture_that_fails_leaves_a_usable_stream(device: Device, machine: Machine) -> None:
    stream, graphs = Stream(device), list[Graph]()
    with pytest.raises(ZeroDivisionError), stream.capturing(graphs):
        _ = 1 / 0
    with pytest.raises(CudaError, match="STREAM_CAPTURE_UNSUPPORTED"), stream.capturing(graphs):
        DeviceBuffer(device, 4)
    with pytest.raises(CudaError, match="STREAM_CAPTURE_INVALIDATED"), stream.capturing(graphs):
        machine.gpu.streams[stream.address].invalidated = True
    machine.driver.fail("cuGraphInstantiate", CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(CudaError, match="cuGraphInstantiate"), stream.capturing(graphs):
        pass
    assert graphs == []
    stream.synchronize()
    stream.close()
    assert machine.gpu.violations == ["cuMemAlloc while a stream is captured"]
    machine.gpu.violations.clear()


def test_the_fake_is_strict(device: Device, machine: Machine) -> None:
    """Without this, passing tests would mean little."""
    buffer, stream = DeviceBuffer(device, 4), Stream(device)
    address, handle = buffer.address, stream.address
    with pytest.raises(AssertionError, match="reach beyond"):
        stream.upload(address, address, 5)
    buffer.close()
    with pytest.raises(AssertionError, match="freed twice"):
        device.call("cuMemFree", address)
    with pytest.raises(AssertionError, match="never allocated, or freed"):
        stream.download(0x1000, address, 4)
    stream.close()
    with pytest.raises(AssertionError, match="no stream"):
        device.call("cuStreamSynchronize", handle)
    machine.driver.stack.pop()
    with pytest.raises(CudaError, match="INVALID_CONTEXT"):
        DeviceBuffer(device, 4)
    machine.driver.stack.append(0xC0)
    assert len(machine.gpu.violations) == 5
    machine.gpu.violations.clear()
