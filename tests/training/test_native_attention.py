"""Gradients: the twin's are right, and the C++ kernel's are the twin's."""

from __future__ import annotations

import shutil

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
@pytest.mark.parametrize("channels", [5, 16, 32])
def test_the_kernel_gives_the_twins_values_and_gradients(channels: int, reference_size: int) -> None:
    inputs = _inputs(torch.float32, channels, reference_size, heads=3, queries=7)
    inputs[2][0, 0, 0, 0] = torch.tensor([[1e12, 0.0], [-40.0, 3.0]])  # samples far outside
    for tensor in inputs:
        tensor.requires_grad_()
    arriving = torch.randn(2, 7, 3 * channels, generator=torch.Generator().manual_seed(1))
    found, expected = (attend(inputs[0], SHAPES, *inputs[1:]) for attend in (native_ms_deform_attn, ms_deform_attn))
    assert_close_to_scale(found.detach(), expected.detach(), 1e-4)
    gradients = [torch.autograd.grad(output, inputs, arriving) for output in (found, expected)]
    for name, one, other in zip(("value", "references", "offsets", "logits"), *gradients, strict=True):
        assert_close_to_scale(one, other, 1e-4, name=f"the gradients by {name}")


def test_a_machine_without_a_compiler_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    native_attention.load_kernel.cache_clear()
    with pytest.raises(BackendError, match="native_attention = false"):
        native_attention.load_kernel()
