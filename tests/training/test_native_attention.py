"""Gradients: the twin's are right, and the C++ kernel's are the twin's."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.modeling.ops import ms_deform_attn
from sparse_detr_deploy.training import native_attention
from sparse_detr_deploy.training.native_attention import native_ms_deform_attn
from tests.closeness import assert_close_to_scale

SHAPES = ((3, 4), (2, 2))


def _inputs(
    dtype: torch.dtype, channels: int, reference_size: int, heads: int = 2, queries: int = 3
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(channels + reference_size)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    references = torch.rand(2, queries, 2, reference_size, generator=generator, dtype=dtype)
    return (
        normal(2, 16, heads, channels),
        references,
        normal(2, queries, heads, 2, 2, 2) * 1.3,
        normal(2, queries, heads, 4),
    )


@pytest.mark.parametrize("reference_size", [2, 4])
def test_gradcheck_of_the_twin(reference_size: int) -> None:
    value, references, offsets, logits = _inputs(torch.float64, 3, reference_size)
    for tensor in (value, references, offsets, logits):
        tensor.requires_grad_()
    torch.autograd.gradcheck(
        lambda v, r, o, a: ms_deform_attn(v, SHAPES, r, o, a), (value, references, offsets, logits), atol=1e-6
    )


@pytest.mark.parametrize("reference_size", [2, 4])
@pytest.mark.parametrize("channels", [5, 12, 16, 32])
def test_the_kernel_gives_the_twins_values_and_gradients(channels: int, reference_size: int) -> None:
    inputs = _inputs(torch.float32, channels, reference_size, heads=3, queries=7)
    inputs[2][0, 0, 0, 0] = torch.tensor([[1e12, 0.0], [-40.0, 3.0]])  # samples far outside
    for tensor in inputs:
        tensor.requires_grad_()
    arriving = torch.randn(2, 7, 3 * channels, generator=torch.Generator().manual_seed(1))
    found, expected = (attend(inputs[0], SHAPES, *inputs[1:]) for attend in (native_ms_deform_attn, ms_deform_attn))
    assert_close_to_scale(found.detach(), expected.detach(), 1e-5)
    gradients = [torch.autograd.grad(output, inputs, arriving) for output in (found, expected)]
    for name, one, other in zip(("value", "references", "offsets", "logits"), *gradients, strict=True):
        assert_close_to_scale(one, other, 1e-5, name=f"the gradients by {name}")


def test_a_sample_that_is_no_number_counts_nothing() -> None:
    value, locations, weights = torch.ones(1, 4, 1, 3), torch.full((1, 1, 1, 1, 5, 2), 0.5), torch.ones(1, 1, 1, 1, 5)
    for point, axis, odd in ((1, 0, "nan"), (2, 1, "nan"), (3, 0, "inf"), (4, 1, "-inf")):
        locations[0, 0, 0, 0, point, axis] = float(odd)
    kernel = native_attention.load_kernel()
    assert kernel.forward(value, [2, 2], locations, weights).tolist() == [[[1, 1, 1]]]
    by_value, by_location, by_weight = kernel.backward(value, [2, 2], locations, weights, torch.ones(1, 1, 3))
    assert by_value.flatten().tolist() == [0.25] * 12
    assert not by_location.any()
    assert by_weight.flatten().tolist() == [3, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        *((name, lambda tensor: tensor.double(), "float32") for name in ("value", "locations", "weights")),
        *((name, lambda tensor: tensor.transpose(0, 1), "contiguous") for name in ("value", "locations", "weights")),
        ("value", lambda tensor: tensor[0], "number of dimensions"),
        ("locations", lambda tensor: tensor[..., 0], "number of dimensions"),
        ("weights", lambda tensor: tensor[..., 0], "number of dimensions"),
        ("value", lambda tensor: tensor[:1], "do not fit value"),
        ("value", lambda tensor: tensor[:, :, :1], "do not fit value"),
        ("locations", lambda tensor: tensor[..., [0, 1, 1]], "do not fit value"),
        *(
            ("weights", lambda tensor, axis=axis: tensor.narrow(axis, 0, tensor.shape[axis] - 1), "do not fit value")
            for axis in range(5)
        ),
        ("value", lambda tensor: tensor[:, 1:], "add up"),
        ("shapes", lambda shapes: shapes[:2], "add up"),
        ("shapes", lambda shapes: [*shapes, 0, 1], "add up"),
    ],
)
def test_the_kernel_refuses_what_it_would_read_beyond(name: str, change: Any, message: str) -> None:
    value, _, offsets, logits = _inputs(torch.float32, 5, 2)
    inputs: dict[str, Any] = {"value": value, "shapes": [3, 4, 2, 2], "locations": offsets}
    inputs["weights"] = logits.view(offsets.shape[:-1])
    inputs[name] = change(inputs[name])
    if message != "contiguous":
        inputs |= {key: tensor.contiguous() for key, tensor in inputs.items() if key != "shapes"}
    kernel = native_attention.load_kernel()
    with pytest.raises(RuntimeError, match=message):
        kernel.forward(*inputs.values())
    with pytest.raises(RuntimeError, match=message):
        kernel.backward(*inputs.values(), torch.zeros(2, 3, 10))


def test_a_machine_without_a_compiler_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    native_attention.load_kernel.cache_clear()
    with pytest.raises(BackendError, match="native_attention = false"):
        native_attention.load_kernel()
