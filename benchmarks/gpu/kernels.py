"""The kernels' C interface (``plugins/kernels``) on torch tensors, by ctypes: nothing is compiled at import.

The library is ``libsparse_detr_kernels_c.so`` of the CMake build with ``SPARSE_DETR_TESTS=ON``.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.tokens import LevelShapes

TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
AUTOMATIC, NEVER_SPLIT, ALWAYS_SPLIT = 0, 1, 2


class AttentionArguments(ctypes.Structure):
    """``SparseDetrMSDeformAttn`` of ms_deform_attn.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "spatial_shapes", "reference_points", "sampling_offsets")),
        *((name, ctypes.c_void_p) for name in ("attention_logits", "output")),
        ("level_shapes", ctypes.c_int32 * 16),
        *((name, ctypes.c_int32) for name in ("batch", "tokens", "heads", "channels", "queries", "levels", "points")),
        *((name, ctypes.c_int32) for name in ("reference_batch", "reference_levels", "reference_size")),
        *((name, ctypes.c_int32) for name in ("type", "reference_type", "split")),
    )


class SelectionArguments(ctypes.Structure):
    """``SparseDetrSelectTokens`` of select_tokens.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("scores", "num_keep", "indices")),
        *((name, ctypes.c_int32) for name in ("batch", "tokens", "width", "counts", "type")),
    )


class Kernels:
    """Launches on torch's current stream; neither allocates (given an output) nor synchronises."""

    def __init__(self, library: Path) -> None:
        """Load the library; :class:`BackendError` if it cannot be loaded."""
        try:
            self._library = ctypes.CDLL(str(library))
        except OSError as error:
            raise BackendError(f"the kernels cannot be loaded from {library}: {error}; build plugins/ first") from error
        for name in ("ms_deform_attn", "select_tokens"):
            getattr(self._library, f"sparse_detr_check_{name}").restype = ctypes.c_char_p

    def check(self, name: str, arguments: ctypes.Structure) -> str | None:
        """Why ``arguments`` cannot run, or ``None``."""
        why = getattr(self._library, f"sparse_detr_check_{name}")(ctypes.byref(arguments))
        return None if why is None else why.decode()

    def launch(self, name: str, arguments: ctypes.Structure, stream: int) -> None:
        """Enqueue; :class:`InputError` for sizes and types that cannot run, :class:`BackendError` for CUDA's errors."""
        why = self.check(name, arguments)
        if why is not None:
            raise InputError(f"{name}: {why}")
        function = getattr(self._library, f"sparse_detr_launch_{name}")
        status = function(ctypes.byref(arguments), ctypes.c_void_p(stream))
        if status != 0:
            raise BackendError(f"{name}: CUDA error {status} at launch; see cudaError_t for its meaning")

    def ms_deform_attn(
        self,
        value: Tensor,
        level_shapes: LevelShapes | Tensor,
        reference_points: Tensor,
        sampling_offsets: Tensor,
        attention_logits: Tensor,
        *,
        output: Tensor | None = None,
        split: int = AUTOMATIC,
    ) -> Tensor:
        """As :func:`sparse_detr_deploy.modeling.ops.ms_deform_attn`; the shapes may be an int64 tensor [L, 2] on the device."""
        batch, tokens, heads, channels = value.shape
        _, queries, _, levels, points, _ = sampling_offsets.shape
        if output is None:
            output = value.new_empty(batch, queries, heads * channels)
        arguments = AttentionArguments(
            value=_address(value),
            reference_points=_address(reference_points),
            sampling_offsets=_address(sampling_offsets),
            attention_logits=_address(attention_logits),
            output=_address(output),
            batch=batch,
            tokens=tokens,
            heads=heads,
            channels=channels,
            queries=queries,
            levels=levels,
            points=points,
            reference_batch=reference_points.shape[0],
            reference_levels=reference_points.shape[2],
            reference_size=reference_points.shape[3],
            type=TYPES[value.dtype],
            reference_type=TYPES[reference_points.dtype],
            split=split,
        )
        if isinstance(level_shapes, Tensor):
            arguments.spatial_shapes = _address(level_shapes)
        else:
            arguments.level_shapes[: 2 * levels] = [size for shape in level_shapes for size in shape]
        self.launch("ms_deform_attn", arguments, torch.cuda.current_stream().cuda_stream)
        return output

    def select_tokens(
        self, scores: Tensor, num_keep: Tensor | None, width: int, *, output: Tensor | None = None
    ) -> Tensor:
        """As :func:`sparse_detr_deploy.modeling.ops.select_tokens` with ``width`` places; ``None`` keeps ``width``."""
        batch, tokens = scores.shape
        if output is None:
            output = torch.empty(batch, width, dtype=torch.int64, device=scores.device)
        arguments = SelectionArguments(
            scores=_address(scores),
            num_keep=None if num_keep is None else _address(num_keep),
            indices=_address(output),
            batch=batch,
            tokens=tokens,
            width=width,
            counts=1 if num_keep is None else num_keep.shape[0],
            type=TYPES[scores.dtype],
        )
        self.launch("select_tokens", arguments, torch.cuda.current_stream().cuda_stream)
        return output


def _address(tensor: Tensor) -> int:
    if not tensor.is_cuda or not tensor.is_contiguous():
        raise InputError("the kernels take contiguous tensors on the GPU: call .cuda().contiguous() first")
    return tensor.data_ptr()
