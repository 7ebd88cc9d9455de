"""Multi-scale deformable attention for training on a CPU: a C++ kernel with gradients, several times the twin's speed.

Compiled when it is first asked for; needs a C++ compiler. The twin stays the truth: the tests hold values
and gradients of the kernel against it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.modeling.attention import MSDeformAttn
from sparse_detr_deploy.modeling.ops.ms_deform_attn import sampling_locations
from sparse_detr_deploy.tokens import LevelShapes

_SOURCE = Path(__file__).parent / "csrc" / "ms_deform_attn.cpp"
_FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"]


@functools.cache
def load_kernel() -> Any:
    """Compile (once a machine and version) and load the kernel.

    Raises:
        BackendError: no compiler, or it failed.
    """
    if shutil.which("c++") is None and shutil.which("g++") is None:
        raise BackendError("the attention kernel needs a C++ compiler (g++ or clang++): set native_attention = false")
    from torch.utils.cpp_extension import load

    try:
        with _installed_programs():
            return load("sparse_detr_training_attention", [str(_SOURCE)], extra_cflags=_FLAGS)
    except (RuntimeError, ImportError, OSError) as error:
        raise BackendError(
            f"the attention kernel cannot be compiled ({str(error).splitlines()[0]}): set native_attention = false"
        ) from None


@contextlib.contextmanager
def _installed_programs() -> Iterator[None]:
    """PyTorch looks for ninja on the path, where a virtual environment that is not activated does not put it."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


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
