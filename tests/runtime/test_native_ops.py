"""The fused CPU kernel in ONNX Runtime against the PyTorch twin."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.export.functions import DOMAIN, OP_VERSION, OPSET, add_functions
from sparse_detr_deploy.modeling.ops import ms_deform_attn
from tests.modeling.test_ops import SHAPES, attention_case

LIBRARY = native_ops.library_path()
needs_library = pytest.mark.skipif(
    LIBRARY is None, reason="the kernels were not built: no C++ compiler at installation"
)


def session(ranks: dict[str, int], profile: Path | None = None) -> onnxruntime.InferenceSession:
    """One node of the op, its function body in the file as in an artefact, and the library registered."""
    assert LIBRARY is not None
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
    options.register_custom_ops_library(str(LIBRARY))
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


@pytest.fixture(scope="module")
def kernel() -> onnxruntime.InferenceSession:
    if LIBRARY is None:
        pytest.skip("the kernels were not built: no C++ compiler at installation")
    return session({name: array.ndim for name, array in feed_of(attention_case(0, [(2, 2)])).items()})


@needs_library
def test_the_kernel_wins_over_the_function_body(tmp_path: Path) -> None:
    feed = feed_of(attention_case(0, [(3, 5), (2, 2)]))
    profiled = session({name: array.ndim for name, array in feed.items()}, tmp_path / "profile")
    profiled.run(None, feed)
    events = json.loads(Path(profiled.end_profiling()).read_text())
    assert {event["args"]["op_name"] for event in events if event.get("cat") == "Node"} == {"MSDeformAttn"}


@needs_library
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    SHAPES,
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([1, 5, 8, 16, 32, 64]),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
def test_kernel_equals_the_twin(seed, shapes, batch, heads, channels, points, box, shared) -> None:
    case = attention_case(
        seed, shapes, batch=batch, queries=37, heads=heads, channels=channels, points=points, box=box, shared=shared
    )
    feed = feed_of(case)
    found = session({name: array.ndim for name, array in feed.items()}).run(None, feed)[0]
    np.testing.assert_allclose(found, ms_deform_attn(*case).numpy(), atol=3e-4)


def test_samples_that_are_not_numbers_or_far_away_count_nothing(kernel) -> None:
    value, shapes, reference, offsets, logits = attention_case(1, [(4, 6), (1, 1)])
    for far in (float("nan"), float("inf"), -float("inf"), 1e30):
        feed = feed_of((value, shapes, reference, torch.full_like(offsets, far), logits))
        assert np.abs(kernel.run(None, feed)[0]).max() == 0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spatial_shapes", lambda array: array + 1, "add up"),
        ("spatial_shapes", lambda array: array * 0, "no tokens"),
        ("attention_logits", lambda array: array[..., :-1], "attention_logits"),
        ("sampling_offsets", lambda array: array[:1], "sampling_offsets"),
        ("reference_points", lambda array: array[:, :-1], "reference_points"),
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
            np.testing.assert_allclose(found, expected, atol=3e-4)


def test_a_library_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_DETR_ORT_OPS", "/nowhere/ops.so")
    with pytest.raises(BackendError, match="/nowhere/ops.so"):
        native_ops.library_path()
