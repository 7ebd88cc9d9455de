"""Multi-scale deformable attention for training on a CPU: a C++ kernel with gradients, several times the twin's speed.

Compiled when it is first asked for; needs a C++ compiler. The twin stays the truth: the tests hold values
and gradients of the kernel against it.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.modeling.attention import MSDeformAttn
from sparse_detr_deploy.modeling.ops.ms_deform_attn import sampling_locations
from sparse_detr_deploy.tokens import LevelShapes
from sparse_detr_deploy.training.kernel_build import MODULE, REMEDY, built_kernel


@functools.cache
def load_kernel() -> Any:
    """Compile (once a machine and version) and load the kernel.

    Raises:
        BackendError: no compiler, it failed, or the kernel cannot be loaded.
        OutputError: the user's cache cannot be written.
    """
    path = built_kernel()
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise BackendError(f"the attention kernel {path} cannot be loaded ({error}): {REMEDY}") from None
    return module


def use_native_attention(model: nn.Module) -> None:
    """Make every deformable attention layer of ``model`` sample with the kernel."""
    load_kernel()
    for module in model.modules():
        if isinstance(module, MSDeformAttn):
            module.attend = native_ms_deform_attn


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, locations: Tensor, weights: Tensor, shapes: list[int]) -> Tensor:
        value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        result: Tensor = load_kernel().forward(value, shapes, locations, weights)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        found: tuple[Tensor, ...] = load_kernel().backward(value, ctx.shapes, locations, weights, gradients[0])
        return (*found, None)


def native_ms_deform_attn(
    value: Tensor,
    level_shapes: LevelShapes,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """As :func:`~sparse_detr_deploy.modeling.ops.ms_deform_attn`, for float32 on the CPU, with gradients."""
    locations = sampling_locations(level_shapes, reference_points, sampling_offsets)
    weights = attention_logits.softmax(-1).view(sampling_offsets.shape[:-1])
    shapes = [size for shape in level_shapes for size in shape]
    result: Tensor = _Attention.apply(value, locations, weights, shapes)  # type: ignore[no-untyped-call]
    return result
