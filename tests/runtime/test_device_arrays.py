"""Arrays of other libraries on the GPU, and ours for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sparse_detr_deploy import BackendError, InputError
from sparse_detr_deploy.cuda import Device, DeviceBuffer, HostBuffer, Stream
from sparse_detr_deploy.runners import dlpack
from sparse_detr_deploy.runners.device_arrays import DeviceArray, Lease, is_device_array, view
from tests.fakes.gpu import as_array
from tests.fakes.machine import ForeignArray, Machine, fake_machine

VALUES = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with fake_machine() as machine:
        yield machine


@pytest.fixture
def stream(machine: Machine) -> Iterator[Stream]:
    device = Device(0)
    with device.current():
        stream = Stream(device)
        yield stream
        stream.close()
    device.close()


class OfTheHost:
    """Gives the memory of a NumPy array through our capsules, as an array of the CPU."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        return dlpack.give(self.values.ctypes.data, self.values.shape, self.values.dtype, 0, self)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "i4", "u1"])
def test_capsules_are_read_by_numpy_and_torch(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlpack, "CUDA", 1)  # the layout of the structure is the same on the CPU
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for read in (np.from_dlpack, lambda array: torch.from_dlpack(array).numpy()):
        found = read(OfTheHost(values))
        np.testing.assert_array_equal(found, values)
        assert found.ctypes.data == values.ctypes.data
        assert dlpack.num_given() == 1
        del found
        assert dlpack.num_given() == 0


def test_a_capsule_that_nobody_takes_is_given_back() -> None:
    capsule = OfTheHost(VALUES).__dlpack__()
    assert dlpack.num_given() == 1
    del capsule
    assert dlpack.num_given() == 0


@pytest.mark.parametrize("source", [VALUES, torch.from_numpy(VALUES.copy()), torch.arange(5, dtype=torch.int64)[2:]])
def test_capsules_of_numpy_and_torch_are_read(source: Any) -> None:
    taken = dlpack.TakenTensor(source.__dlpack__())
    expected = np.asarray(source)
    assert taken.dtype == expected.dtype
    assert taken.shape == expected.shape
    np.testing.assert_array_equal(as_array(taken.address, taken.shape, taken.dtype), expected)
    taken.close()
    taken.close()


def test_an_offset_into_a_capsule() -> None:
    """Few producers use it; NumPy and torch move the pointer instead."""
    capsule = OfTheHost(VALUES).__dlpack__()
    (managed, _, _) = next(iter(dlpack._given.values()))
    managed.tensor.byte_offset = 8
    taken = dlpack.TakenTensor(capsule)
    assert taken.address == VALUES.ctypes.data + 8
    assert taken.strides is None
    taken.close()
    assert dlpack.num_given() == 0


@pytest.mark.parametrize("change", [{"lanes": 4}, {"bits": 4}, {"code": 4}])
def test_elements_that_numpy_has_not(change: dict[str, int]) -> None:
    """Vectors, halves of bytes, bfloat16."""
    capsule = OfTheHost(VALUES).__dlpack__()
    (managed, _, _) = next(iter(dlpack._given.values()))
    for name, value in change.items():
        setattr(managed.tensor, name, value)
    taken = dlpack.TakenTensor(capsule)
    assert taken.dtype is None
    taken.close()


def test_types_that_numpy_has_not() -> None:
    assert dlpack.TakenTensor(torch.zeros(2, dtype=torch.bfloat16).__dlpack__()).dtype is None


def test_a_capsule_can_be_taken_once() -> None:
    capsule = VALUES.__dlpack__()
    dlpack.TakenTensor(capsule).close()
    with pytest.raises(ValueError, match="PyCapsule"):
        dlpack.TakenTensor(capsule)


def test_what_is_on_a_gpu(machine: Machine) -> None:
    for speaks in ("dlpack", "interface"):
        array = ForeignArray(machine, VALUES, speaks)
        assert is_device_array(array)
        array.free()
    for value in (VALUES, torch.zeros(2), [1, 2], None, "x"):
        assert not is_device_array(value)


@pytest.mark.parametrize("speaks", ["dlpack", "interface"])
def test_a_view_waits_for_the_producer(speaks: str, stream: Stream, machine: Machine) -> None:
    array = ForeignArray(machine, VALUES, speaks)
    found = view(array, "images", stream.device, stream)
    assert (found.address, found.shape, found.dtype) == (array.address, VALUES.shape, VALUES.dtype)
    back = HostBuffer(stream.device, VALUES.nbytes)
    stream.download(back.address, found.address, VALUES.nbytes)
    stream.synchronize()  # of our stream only: the producer's work must have come before
    np.testing.assert_array_equal(back.array(VALUES.shape, VALUES.dtype), VALUES)
    assert dlpack.num_given() == (speaks == "dlpack")
    found.release()
    assert dlpack.num_given() == 0
    back.close()
    array.free()


def test_views_that_are_refused(stream: Stream, machine: Machine) -> None:
    array = ForeignArray(machine, VALUES, "interface")
    described = dict(array.__cuda_array_interface__)
    for change, message in (
        ({"strides": (48, 4, 12)}, r"x is not contiguous: call \.contiguous\(\)"),
        ({"typestr": "<q9"}, "cannot be read"),
        ({"data": None}, "cannot be read"),
        ({"data": (0x1234, False)}, "lies not in the memory of a GPU"),
    ):
        array.__cuda_array_interface__ = {**described, **change}
        with pytest.raises(InputError, match=message):
            view(array, "x", stream.device, stream)
    for strides in ((48, 16, 4), (999, 16, 4)):  # that of an axis of one element says nothing
        array.__cuda_array_interface__ = {**described, "strides": strides, "stream": 2, "version": 3}
        assert view(array, "x", stream.device, stream).shape == VALUES.shape
    array.free()


def test_arrays_of_another_gpu_are_given_back(stream: Stream, machine: Machine) -> None:
    array = ForeignArray(machine, VALUES, "dlpack", kind="other device")
    with pytest.raises(InputError, match="x lies on GPU 1, but the engine runs on GPU 0"):
        view(array, "x", stream.device, stream)
    assert dlpack.num_given() == 0
    assert stream_work(machine) == 0  # a stream of another GPU was not waited for
    array.free()


def stream_work(machine: Machine) -> int:
    return sum(len(stream.pending) for stream in machine.gpu.streams.values()) - 1  # the producer's own


def test_arrays_of_another_gpu_by_their_interface(stream: Stream, machine: Machine) -> None:
    array = ForeignArray(machine, VALUES, "interface", kind="other device")
    array.__cuda_array_interface__ = {**array.__cuda_array_interface__, "stream": 0xBAD, "version": 3}
    with pytest.raises(InputError, match="x lies on GPU 1, but the engine runs on GPU 0"):
        view(array, "x", stream.device, stream)
    array.free()


def test_a_producer_that_refuses(stream: Stream, machine: Machine) -> None:
    class NeedsGradient:
        def __dlpack_device__(self) -> tuple[int, int]:
            return dlpack.CUDA, 0

        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("it requires a gradient")

    with pytest.raises(InputError, match="requires a gradient.*detach"):
        view(NeedsGradient(), "x", stream.device, stream)


@pytest.fixture
def output(stream: Stream) -> Iterator[DeviceArray]:
    buffer = DeviceBuffer(stream.device, VALUES.nbytes)
    array = DeviceArray(buffer.address, VALUES.shape, VALUES.dtype, stream, Lease(), synced=False)
    stream.upload(buffer.address, VALUES.ctypes.data, VALUES.nbytes)
    yield array
    buffer.close()


def test_an_output_is_offered_by_both_protocols(output: DeviceArray, stream: Stream, machine: Machine) -> None:
    described = output.__cuda_array_interface__
    assert described["shape"] == VALUES.shape
    assert described["stream"] == stream.address
    assert output.__dlpack_device__() == (dlpack.CUDA, 0)
    consumer = Stream(stream.device)
    taken = dlpack.TakenTensor(output.__dlpack__(stream=consumer.address))
    back = HostBuffer(stream.device, VALUES.nbytes)
    consumer.download(back.address, taken.address, VALUES.nbytes)
    consumer.synchronize()
    np.testing.assert_array_equal(back.array(VALUES.shape, VALUES.dtype), VALUES)
    np.testing.assert_array_equal(output.to_host(), VALUES)
    taken.close()
    consumer.close()
    back.close()


def test_streams_of_dlpack(output: DeviceArray, machine: Machine) -> None:
    for number in (None, 1, 2, -1):
        dlpack.TakenTensor(output.__dlpack__(stream=number)).close()
    assert len(machine.gpu.streams[1].pending) == 2
    with pytest.raises(BackendError, match="stream 0 is ambiguous"):
        output.__dlpack__(stream=0)


def test_what_cannot_be_lent_is_refused_as_dlpack_says(output: DeviceArray, machine: Machine) -> None:
    for options in ({"copy": True}, {"dl_device": (1, 0)}, {"dl_device": (dlpack.CUDA, 1)}):
        with pytest.raises(BufferError, match="lent as it lies"):
            output.__dlpack__(stream=-1, **options)
    allowed = {"copy": False, "dl_device": (dlpack.CUDA, 0), "max_version": (1, 3)}
    dlpack.TakenTensor(output.__dlpack__(stream=-1, **allowed)).close()


def test_an_output_that_is_gone(output: DeviceArray) -> None:
    output._lease.valid = False
    for use in (lambda: output.__cuda_array_interface__, output.__dlpack__, output.to_host):
        with pytest.raises(BackendError, match="used again by a later run.*clone"):
            use()
