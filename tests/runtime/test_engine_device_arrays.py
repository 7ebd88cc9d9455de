"""Arrays on the GPU as inputs and outputs of an engine, on a fake GPU that notices what is read or freed too early."""

from __future__ import annotations

import numpy as np
import pytest

from sparse_detr_deploy import BackendError, Detector, InputError
from sparse_detr_deploy.cuda import HostBuffer, Stream
from sparse_detr_deploy.runners import dlpack
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner
from tests.fakes.machine import ForeignArray, Machine
from tests.runtime.engine_cases import IMAGES, Make, assert_same_outputs, feed_of


@pytest.mark.parametrize("speaks", ["dlpack", "interface"])
def test_inputs_on_the_gpu_are_read_where_they_lie(speaks: str, make: Make, machine: Machine) -> None:
    with TensorRTRunner(make("padded")) as runner:
        feed = feed_of(runner)
        expected = runner.run(feed)
        machine.gpu.uploaded_bytes = 0
        for _ in range(3):
            image = ForeignArray(machine, feed["images"], speaks)
            assert_same_outputs(expected, runner.run({**feed, "images": image}))
            image.free()
        assert machine.gpu.uploaded_bytes == 3 * feed["image_sizes"].nbytes


def test_a_buffer_that_is_used_again_is_captured(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        image = ForeignArray(machine, feed["images"], "interface")
        expected = runner.run(feed)
        for _ in range(4):
            assert_same_outputs(expected, runner.run({"images": image}))
        assert (machine.gpu.captures, machine.gpu.launches) == (1, 2)
        image.free()


def test_memory_that_tensorrt_could_not_take_is_copied(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        image = ForeignArray(machine, feed["images"], "dlpack", offset=4)
        for _ in range(3):
            assert_same_outputs(runner.run(feed), runner.run({"images": image}))
        image.free()


def test_outputs_that_stay_on_the_gpu(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        expected = runner.run(feed)
        found = runner.run_device(feed)
        assert_same_outputs(expected, {name: array.to_host() for name, array in found.items()})
        assert found["boxes"].__cuda_array_interface__["stream"] is None  # the call has waited
        again = runner.run_device(feed)
        with pytest.raises(BackendError, match="used again by a later run"):
            found["boxes"].to_host()
        assert again["scores"].nbytes == expected["scores"].nbytes
    with pytest.raises(BackendError, match="runner is closed"):
        again["boxes"].to_host()


def test_a_stream_that_waits_for_the_outputs(make: Make, machine: Machine) -> None:
    """The call does not wait, the stream does; and the next run waits until the stream is done with the outputs."""
    with TensorRTRunner(make()) as runner:
        feeds = [feed_of(runner, seed) for seed in (0, 1, 2)]
        expected = [runner.run(feed) for feed in feeds]
        with runner._engine.device.current():
            consumer = Stream(runner._engine.device)
        copies = []
        for feed in feeds:
            found = runner.run_device(feed, stream=consumer.address)
            assert machine.gpu.streams[runner._execution.stream.address].pending
            boxes = dlpack.TakenTensor(found["boxes"].__dlpack__(stream=-1))
            with runner._engine.device.current():
                copies.append(machine.gpu.allocate(expected[0]["boxes"].nbytes, "host"))
                consumer.download(copies[-1], boxes.address, expected[0]["boxes"].nbytes)
            boxes.close()
        with runner._engine.device.current():
            runner._execution.stream.synchronize()  # as far ahead as it may
            consumer.synchronize()
            for outputs, address in zip(expected, copies, strict=True):
                kept = np.ctypeslib.as_array(
                    (np.ctypeslib.ctypes.c_float * outputs["boxes"].size).from_address(address)
                )
                np.testing.assert_array_equal(kept, outputs["boxes"].ravel())
                del machine.gpu.blocks[address]
            consumer.close()


def test_outputs_taken_by_dlpack_are_not_overwritten_too_early(make: Make, machine: Machine) -> None:
    """What a consumer has enqueued on the stream that it named comes before the next run."""
    with TensorRTRunner(make()) as runner:
        device = runner._engine.device
        feeds = [feed_of(runner, seed) for seed in (0, 1)]
        expected = runner.run(feeds[0])["boxes"]
        with device.current():
            consumer, copy = Stream(device), HostBuffer(device, expected.nbytes)
            taken = dlpack.TakenTensor(runner.run_device(feeds[0])["boxes"].__dlpack__(stream=consumer.address))
            consumer.download(copy.address, taken.address, expected.nbytes)
            runner.run(feeds[1])
            consumer.synchronize()
            np.testing.assert_array_equal(copy.array(expected.shape, expected.dtype), expected)
            taken.close()
            copy.close()
            consumer.close()


def test_a_failed_run_gives_inputs_back_when_the_gpu_is_done_with_them(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        image = ForeignArray(machine, feed["images"], "dlpack", offset=4)  # copied first, as it is not aligned
        machine.trt.enqueue_works = False
        with pytest.raises(BackendError, match="TensorRT cannot run it"):
            runner.run({"images": image})
        assert machine.gpu.streams[runner._execution.stream.address].pending == []
        assert dlpack.num_given() == 0
        image.free()
        machine.trt.enqueue_works = True
        runner.run(feed)


def test_the_default_stream_may_wait(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = feed_of(runner)
        for _ in range(3):
            found = runner.run_device(feed, stream=0)
        assert_same_outputs(runner.run(feed), runner.run(feed))
        assert set(found) == {"boxes", "scores", "labels"}


def test_gpu_inputs_of_the_wrong_kind_are_given_back(make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        for values in (np.zeros((1, 3, 96, 128), np.float16), np.zeros((1, 3, 95, 128), np.float32)):
            array = ForeignArray(machine, values, "dlpack")
            with pytest.raises(InputError, match="images is"):
                runner.run({"images": array})
            assert dlpack.num_given() == 0
            array.free()


def test_images_on_the_gpu_are_not_for_the_detector(make: Make, machine: Machine) -> None:
    array = ForeignArray(machine, IMAGES[0], "interface")
    with Detector.load(make()) as detector, pytest.raises(InputError, match="lies on a GPU.*detector.runner.run"):
        detector(array)  # type: ignore[call-overload]
    array.free()
