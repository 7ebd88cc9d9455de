"""The custom ops: PyTorch twin against arithmetic written out, and against the ONNX function body in ONNX Runtime."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_detr_deploy.export.functions import DOMAIN, OP_VERSION, OPSET, add_functions
from sparse_detr_deploy.modeling.ops import ms_deform_attn, select_tokens
from tests.closeness import assert_close_to_scale

SHAPES = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=4)


def _session(op_type: str, inputs: dict[str, np.ndarray]) -> onnxruntime.InferenceSession:
    outputs = {
        "MSDeformAttn": (onnx.TensorProto.FLOAT, [None] * 3),
        "SelectTokens": (onnx.TensorProto.INT64, [None] * 2),
    }
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op_type, list(inputs), ["result"], domain=DOMAIN)],
        "one_op",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
            )
            for name, value in inputs.items()
        ],
        [onnx.helper.make_tensor_value_info("result", *outputs[op_type])],
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, OP_VERSION)],
        ir_version=10,
    )
    add_functions(model)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_body(op_type: str, **inputs: np.ndarray) -> np.ndarray:
    """The op's function body in ONNX Runtime, all dimensions dynamic."""
    return np.asarray(_session(op_type, inputs).run(None, inputs)[0])


def attention_case(
    seed, shapes, batch=2, queries=5, heads=2, channels=4, points=3, box=False, shared=False, spread=3.0
):
    """Random inputs of MSDeformAttn; ``spread`` in pixels sends many samples outside the image."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    levels, tokens = len(shapes), sum(h * w for h, w in shapes)
    reference = torch.rand(
        1 if shared else batch, queries, 1 if shared else levels, 4 if box else 2, generator=generator
    )
    return (
        normal(batch, tokens, heads, channels),
        tuple(shapes),
        reference * 1.2 - 0.1,
        normal(batch, queries, heads, levels, points, 2) * spread,
        normal(batch, queries, heads, levels * points) * 2,
    )


def largest(case):
    """The largest value of a case: what its output, a weighted mean of values and zeros, is as large as at most."""
    return float(case[0].abs().max())


def body_of(case):
    value, shapes, reference, offsets, logits = case
    return run_body(
        "MSDeformAttn",
        value=value.numpy(),
        spatial_shapes=np.array(shapes, dtype=np.int64),
        reference_points=reference.numpy(),
        sampling_offsets=offsets.numpy(),
        attention_logits=logits.numpy(),
    )


def written_out(value, shapes, reference, offsets, logits):
    """Equation 3 of Deformable DETR in float64 with Python loops."""
    value, reference, offsets = value.double().numpy(), reference.double().numpy(), offsets.double().numpy()
    weights = logits.double().softmax(-1).numpy()
    batch, queries, heads, levels, points, _ = offsets.shape
    result = np.zeros((batch, queries, heads, value.shape[3]))
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    for b, q, m, level, p in itertools.product(*map(range, (batch, queries, heads, levels, points))):
        height, width = shapes[level]
        point = reference[b % len(reference), q, level % reference.shape[2]]
        dx, dy = offsets[b, q, m, level, p]
        if len(point) == 4:
            dx, dy = dx / points * point[2] * 0.5 * width, dy / points * point[3] * 0.5 * height
        x, y = point[0] * width + dx - 0.5, point[1] * height + dy - 0.5
        for row, column in itertools.product((np.floor(y), np.floor(y) + 1), (np.floor(x), np.floor(x) + 1)):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[b, q, m, level * points + p]
                result[b, q, m] += share * value[b, starts[level] + int(row) * width + int(column), m]
    return result.reshape(batch, queries, -1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), SHAPES, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans()
)
def test_attention_twin_and_body_agree_with_the_equation(seed, shapes, batch, heads, points, box, shared):
    case = attention_case(seed, shapes, batch=batch, heads=heads, points=points, box=box, shared=shared)
    expected = written_out(*case)
    assert_close_to_scale(ms_deform_attn(*case), expected, 1e-5, largest(case))
    assert_close_to_scale(body_of(case), expected, 1e-5, largest(case))


def test_attention_far_outside_gives_zero():
    value, shapes, reference, offsets, logits = attention_case(0, [(3, 4), (1, 1)])
    case = (value, shapes, reference, offsets * 0 + 1e6, logits)
    assert ms_deform_attn(*case).abs().max() == 0
    assert np.abs(body_of(case)).max() == 0


def test_attention_is_differentiable():
    value, shapes, reference, offsets, logits = (
        part.double().requires_grad_() if isinstance(part, torch.Tensor) else part
        for part in attention_case(3, [(3, 4), (2, 2)], batch=1, queries=2, points=2)
    )
    assert torch.autograd.gradcheck(
        lambda v, r, o, w: ms_deform_attn(v, shapes, r, o, w), (value, reference, offsets, logits), atol=1e-4
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_selection_twin_and_body_agree_with_sorting(data):
    batch, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    # few distinct values, so that ties are common
    values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=tokens, max_size=tokens)
    scores = np.array([data.draw(values) for _ in range(batch)], dtype=np.float32)
    counts = np.array(
        [data.draw(st.integers(1, tokens)) for _ in range(data.draw(st.sampled_from([1, batch])))], dtype=np.int64
    )
    expected = []
    for image in range(batch):
        count = counts[image % len(counts)]
        order = sorted(range(tokens), key=lambda index: (-scores[image, index], index))[:count]
        expected.append(sorted(order[position % count] for position in range(counts.max())))
    twin = select_tokens(torch.from_numpy(scores), torch.from_numpy(counts))
    np.testing.assert_array_equal(twin.numpy(), expected)
    np.testing.assert_array_equal(run_body("SelectTokens", scores=scores, num_keep=counts), expected)


@pytest.mark.parametrize("count", [1, 9])
def test_selection_of_one_and_of_all(count):
    scores = np.arange(9, dtype=np.float32)[None]
    expected = np.arange(9)[-count:][None]
    np.testing.assert_array_equal(select_tokens(torch.from_numpy(scores), torch.tensor([count])).numpy(), expected)
    np.testing.assert_array_equal(run_body("SelectTokens", scores=scores, num_keep=np.array([count])), expected)


def test_attention_of_halves_is_computed_in_float32():
    value, shapes, reference, offsets, logits = attention_case(3, [(40, 50), (20, 25)], box=True)
    halves = [tensor.half() for tensor in (value, offsets, logits)]
    value, offsets, logits = (tensor.float() for tensor in halves)
    found = ms_deform_attn(halves[0], shapes, reference, *halves[1:])
    assert found.dtype == torch.float16
    assert torch.equal(found, ms_deform_attn(value, shapes, reference, offsets, logits).half())
