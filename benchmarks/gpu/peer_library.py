"""Kernels of others behind ``harness/peer_call.h``, by ctypes."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from sparse_detr_deploy.errors import BackendError, InputError

TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
SORT, SEGMENTED_SORT, TOPK = 0, 1, 2
UNSUPPORTED, REFUSED = -1, -2


class PeerAttention(ctypes.Structure):
    """``PeerAttention`` of peer_call.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "spatial_shapes", "level_starts", "locations", "weights")),
        ("output", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("batch", "tokens", "heads", "channels", "levels", "queries", "points")),
        *((name, ctypes.c_int32) for name in ("type", "block_threads")),
    )


class PeerSelection(ctypes.Structure):
    """``PeerSelection`` of peer_call.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("scores", "positions", "boundaries")),
        *((name, ctypes.c_void_p) for name in ("kept_scores", "kept_positions", "workspace")),
        ("workspace_bytes", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("batch", "tokens", "keep", "method")),
    )


class PeerLibrary:
    """One library of the harness; launches on the stream that it is given."""

    def __init__(self, path: Path) -> None:
        """Load it; :class:`BackendError` if it cannot be loaded or is no library of the harness."""
        try:
            self._launch = ctypes.CDLL(str(path)).peer_launch
        except (OSError, AttributeError) as error:
            raise BackendError(f"{path} cannot be loaded as a library of the harness: {error}") from error
        self._launch.restype = ctypes.c_int32

    def launch(self, arguments: ctypes.Structure, stream: int) -> None:
        """Enqueue; :class:`InputError` where the kernel cannot run them, :class:`BackendError` for CUDA's errors."""
        status = self._launch(ctypes.byref(arguments), ctypes.c_void_p(stream))
        if status == UNSUPPORTED:
            raise InputError("the kernel does not offer this type or method")
        if status == REFUSED:
            raise InputError("the kernel's own launcher refuses these sizes")
        if status != 0:
            raise BackendError(f"CUDA error {status} at launch; see cudaError_t for its meaning")


def address(tensor: Tensor) -> int:
    """Where a contiguous tensor lies; :class:`InputError` if it is not contiguous."""
    if not tensor.is_contiguous():
        raise InputError("the kernels take contiguous tensors: call .contiguous() first")
    return tensor.data_ptr()


def current_stream(tensor: Tensor) -> int:
    """torch's stream of the tensor's GPU; 0 for host memory."""
    return int(torch.cuda.current_stream(tensor.device).cuda_stream) if tensor.is_cuda else 0
