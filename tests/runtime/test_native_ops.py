"""The fused CPU kernel in ONNX Runtime against the PyTorch twin."""

from __future__ import annotations

import ctypes
import json
import platform
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import setuptools
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.export.functions import DOMAIN, OP_VERSION, OPSET, add_functions
from sparse_detr_deploy.modeling.ops import ms_deform_attn
from tests.closeness import assert_close_to_scale
from tests.cpu_kernels import built_library
from tests.modeling.test_ops import SHAPES, attention_case, largest


def session(library: Path, feed: dict[str, np.ndarray], profile: Path | None = None) -> onnxruntime.InferenceSession:
    """One node of the op, its function body in the file as in an artefact, and the library registered."""
    ranks = {name: array.ndim for name, array in feed.items()}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MSDeformAttn", list(ranks), ["output"], domain=DOMAIN)],
        "one_op",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.TensorProto.INT64 if name == "spatial_shapes" else onnx.TensorProto.FLOAT, [None] * rank
            )
            for name, rank in ranks.items()
        ],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [None] * 3)],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, OP_VERSION)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    add_functions(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library))
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feed_of(case):
    value, shapes, reference, offsets, logits = case
    return {
        "value": value.numpy(),
        "spatial_shapes": np.array(shapes, dtype=np.int64).reshape(-1, 2),
        "reference_points": reference.numpy(),
        "sampling_offsets": offsets.numpy(),
        "attention_logits": logits.numpy(),
    }


def guarded_run(library: Path, feed: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The output, written into the midst of a larger array in which nothing else changes."""
    guard, size = 8192, int(np.prod(shape))
    memory = np.full(guard + size + guard, np.nan, dtype=np.float32)
    output = memory[guard : guard + size]
    made = session(library, feed)
    binding = made.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    binding.bind_output("output", "cpu", 0, np.float32, shape, output.ctypes.data)
    made.run_with_iobinding(binding)
    assert np.isnan(memory[:guard]).all()
    assert np.isnan(memory[guard + size :]).all()
    return output.reshape(shape)


@pytest.fixture(scope="module")
def built() -> Path:
    return built_library()


@pytest.fixture(scope="module")
def kernel(built: Path) -> onnxruntime.InferenceSession:
    return session(built, feed_of(attention_case(0, [(2, 2)])))


def test_the_kernel_wins_over_the_function_body(built: Path, tmp_path: Path) -> None:
    feed = feed_of(attention_case(0, [(3, 5), (2, 2)]))
    profiled = session(built, feed, tmp_path / "profile")
    profiled.run(None, feed)
    events = json.loads(Path(profiled.end_profiling()).read_text())
    assert {event["args"]["op_name"] for event in events if event.get("cat") == "Node"} == {"MSDeformAttn"}


LEVELS = ("portable", "avx2", "avx512")


def level_of(library: Path) -> str:
    """The instruction set that a library uses; the first call (or session) in a process settles it."""
    told = ctypes.CDLL(str(library)).SparseDetrCpuLevel
    told.restype = ctypes.c_char_p
    return str(told().decode())


@pytest.fixture(scope="module", params=LEVELS)
def library(request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with one instruction set: a copy, because the process keeps what it settled for the first."""
    copy = Path(shutil.copy(built, tmp_path_factory.mktemp("ops") / f"ops_{request.param}{built.suffix}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_DETR_CPU_LEVEL", request.param)
        found = level_of(copy)
    if found != request.param:
        pytest.skip(f"this machine has {found} at best")
    return copy


def test_the_best_level_is_taken_unless_it_is_capped(
    built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = Path("/proc/cpuinfo")
    if flags.is_file() and platform.machine() == "x86_64":
        words = set(flags.read_text().split())
        monkeypatch.delenv("SPARSE_DETR_CPU_LEVEL", raising=False)
        best = level_of(Path(shutil.copy(built, tmp_path / "best.so")))
        assert (best == "avx512") == ({"avx512f", "avx512vl", "avx512dq", "avx512bw"} <= words)
        assert (best == "portable") == (not {"avx2", "fma"} <= words)


def test_an_unknown_level_is_refused(built: Path) -> None:
    program = (
        "import onnxruntime, sys\n"
        "options = onnxruntime.SessionOptions()\n"
        "try: options.register_custom_ops_library(sys.argv[1])\n"
        "except Exception as error: print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(built)],
        env={"SPARSE_DETR_CPU_LEVEL": "sse9"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "SPARSE_DETR_CPU_LEVEL must be portable, avx2 or avx512" in told


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    SHAPES,
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([1, 5, 8, 12, 16, 20, 28, 32, 64]),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
def test_kernel_equals_the_twin(library, seed, shapes, batch, heads, channels, points, box, shared) -> None:
    case = attention_case(
        seed, shapes, batch=batch, queries=37, heads=heads, channels=channels, points=points, box=box, shared=shared
    )
    feed = feed_of(case)
    found = session(library, feed).run(None, feed)[0]
    assert_close_to_scale(found, ms_deform_attn(*case), 1e-5, largest(case))


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 12, 16, 20, 28, 31, 32, 40, 48, 64, 65])
def test_every_way_of_adding_up_channels(library, channels) -> None:
    """Compiled widths, eights and their tails, each with the counts of samples that the compiler knows and not."""
    for points in (4, 3):
        case = attention_case(channels, [(5, 7), (3, 4), (2, 2), (1, 1)], queries=9, channels=channels, points=points)
        found = guarded_run(library, feed_of(case), (2, 9, 2 * channels))
        assert_close_to_scale(found, ms_deform_attn(*case), 1e-5, largest(case))


@pytest.mark.parametrize(("levels", "points"), [(4, 4), (3, 3), (8, 9)])
@pytest.mark.parametrize("shift", [-1000.0, 0.0, 1000.0])
def test_logits_beyond_what_an_exponential_holds(library, levels, points, shift) -> None:
    """The softmax takes the largest logit off first, whichever sample has it."""
    value, shapes, reference, offsets, logits = attention_case(7, [(4, 5)] * levels, queries=40, points=points)
    case = (value, shapes, reference, offsets, logits * 60 + shift)
    feed = feed_of(case)
    found = session(library, feed).run(None, feed)[0]
    assert_close_to_scale(found, ms_deform_attn(*case), 1e-5, largest(case))


@pytest.mark.parametrize("channels", [5, 32])
@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize(
    ("levels", "points"), [(4, 16), (1, 64), (5, 13), (4, 17), (4, 32), (8, 8), (8, 9), (8, 64), (1, 1)]
)
def test_all_levels_and_points_that_a_checkpoint_may_have(library, levels, points, box, channels) -> None:
    shapes = [(9 - level, 5 + level) for level in range(levels)]
    case = attention_case(levels, shapes, queries=40, channels=channels, points=points, box=box)
    feed = feed_of(case)
    found = session(library, feed).run(None, feed)[0]
    assert_close_to_scale(found, ms_deform_attn(*case), 1e-5, largest(case))


@pytest.mark.parametrize(("levels", "points", "message"), [(9, 4, "1 to 8 levels"), (2, 65, "1 to 64 points")])
def test_more_is_refused(kernel, levels, points, message) -> None:
    feed = feed_of(attention_case(0, [(2, 2)] * levels, points=points))
    with pytest.raises(Exception, match=message):
        kernel.run(None, feed)


def test_samples_that_are_not_numbers_or_far_away_count_nothing(library) -> None:
    kernel = session(library, feed_of(attention_case(0, [(2, 2)])))
    value, shapes, reference, offsets, logits = attention_case(1, [(4, 6), (1, 1)])
    for far in (float("nan"), float("inf"), -float("inf"), 1e30):
        feed = feed_of((value, shapes, reference, torch.full_like(offsets, far), logits))
        assert np.abs(kernel.run(None, feed)[0]).max() == 0


# one less of each of the first four dimensions
SHORTER = tuple(lambda array, axis=axis: np.delete(array, 0, axis) for axis in range(4))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spatial_shapes", lambda array: array + 1, "add up"),
        ("spatial_shapes", lambda array: array * 0, "no tokens"),
        # which add up
        ("spatial_shapes", lambda array: -array, "no tokens"),
        ("spatial_shapes", lambda array: np.array([[-4, 6], [9, 6]]), "no tokens"),
        ("spatial_shapes", lambda array: np.array([[4, -6], [9, 6]]), "no tokens"),
        ("spatial_shapes", lambda array: array * [[2**20, 1], [1, 1]], "no tokens or too many"),
        ("spatial_shapes", lambda array: array * [[1, 2**20], [1, 1]], "no tokens or too many"),
        ("spatial_shapes", lambda array: array[:, [0, 1, 1]], r"must be \[levels, 2\]"),
        *(("attention_logits", change, "attention_logits") for change in SHORTER[:4]),
        *(("sampling_offsets", change, "sampling_offsets") for change in (SHORTER[0], *SHORTER[2:4])),
        ("sampling_offsets", lambda array: array[:, :-1], "attention_logits"),  # which give no longer the queries
        ("sampling_offsets", lambda array: array[..., :-1, :], "attention_logits"),
        ("sampling_offsets", lambda array: array[..., [0, 1, 1]], "sampling_offsets"),
        ("reference_points", lambda array: array[:, :-1], "reference_points"),
        ("reference_points", lambda array: array[[0, 1, 1]], "reference_points"),
        ("reference_points", lambda array: array[:, :, [0, 1, 1]], "reference_points"),
        ("reference_points", lambda array: array[..., [0, 1, 1]], "reference_points"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(kernel, name, change, message) -> None:
    feed = feed_of(attention_case(2, [(4, 6), (2, 3)]))
    feed[name] = change(feed[name])
    with pytest.raises(Exception, match=message):
        kernel.run(None, feed)


def test_two_threads_share_a_session(kernel) -> None:
    case = attention_case(3, [(9, 9), (4, 4)], queries=400)
    expected = ms_deform_attn(*case).numpy()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: kernel.run(None, feed_of(case))[0], range(8)):
            assert_close_to_scale(found, expected, 1e-5, largest(case))


@pytest.mark.parametrize(("system", "built"), [("linux", 1), ("darwin", 1), ("win32", 0)])
def test_where_the_installation_builds_the_kernel(system: str, built: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(setuptools, "setup", lambda **options: told.append(options))
    monkeypatch.setattr(sys, "platform", system)
    runpy.run_path("setup.py")
    assert [len(options["ext_modules"]) for options in told] == [built]


def test_a_library_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_DETR_ORT_OPS", "/nowhere/ops.so")
    with pytest.raises(BackendError, match="/nowhere/ops.so"):
        native_ops.library_path()
    monkeypatch.setenv("SPARSE_DETR_ORT_OPS", "x" * 300)
    with pytest.raises(BackendError, match="xxx, which does not exist"):
        native_ops.library_path()
    monkeypatch.setenv("SPARSE_DETR_ORT_OPS", "/")
    with pytest.raises(BackendError, match="names /, which is not a file"):
        native_ops.library_path()


def test_a_library_that_is_named_by_a_relative_path(
    built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ONNX Runtime looks for a name without a folder where the loader does, not in the working directory."""
    copy = shutil.copy(built, tmp_path / f"own{built.suffix}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARSE_DETR_ORT_OPS", copy.name)
    assert native_ops.library_path() == copy
    options = onnxruntime.SessionOptions()
    with pytest.raises(Exception, match="cannot open shared object file"):
        options.register_custom_ops_library(copy.name)
    options.register_custom_ops_library(str(native_ops.library_path()))
