"""Deformable attention of others on our inputs: what each takes, and what it costs to bring our inputs into that form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_detr_deploy.errors import InputError

from .cases import SHAPES, AttentionCase
from .peer_library import TYPES, PeerAttention, PeerLibrary, address, current_stream

MOST_QUERIES_OF_BLOCK, MOST_THREADS_OF_BLOCK, CHANNELS_OF_THREAD = 64, 512, 8  # DCNv4's findspec


@dataclasses.dataclass(frozen=True)
class PeerKernel:
    """How a kernel takes its inputs; ``computes`` says in which type it runs a case of a type."""

    library: str
    computes: Mapping[torch.dtype, torch.dtype]
    index_type: torch.dtype = torch.int64
    fused_softmax: bool = False  # takes [B, Q, M, 3·L·P]: the locations of a head, then its logits
    query_multiple: int = 1  # pads the queries, where the kernel is slow at numbers with few factors


FLOAT32, FLOAT16, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16
SAME_TYPE = {dtype: dtype for dtype in TYPES}
PEER_KERNELS = {
    # the original has no half precision: users cast to float32 and back
    "original": PeerKernel("original", dict.fromkeys(TYPES, FLOAT32)),
    "original_template_float16": PeerKernel("original", {FLOAT16: FLOAT16}),
    "tensorrt": PeerKernel("tensorrt", {FLOAT32: FLOAT32, FLOAT16: FLOAT16}, index_type=torch.int32),
    "dcnv4": PeerKernel("dcnv4", SAME_TYPE, fused_softmax=True),
    "dcnv4_padded": PeerKernel("dcnv4", SAME_TYPE, fused_softmax=True, query_multiple=16),
}


def level_sizes(device: torch.device) -> Tensor:
    """[L, 2] float32 (width, height)."""
    return torch.tensor([(width, height) for height, width in SHAPES], dtype=torch.float32, device=device)


def locations(case: AttentionCase, sizes: Tensor) -> Tensor:
    """[B, Q, M, L, P, 2] float32 (x, y) in 0..1, with nothing copied from the host, so that a CUDA graph can hold it."""
    references = case.reference_points[:, :, None, :, None, :]
    offsets = case.sampling_offsets.float()
    if case.reference_points.shape[-1] == 2:
        return references + offsets / sizes[:, None, :]
    return references[..., :2] + offsets / offsets.shape[4] * references[..., 2:] * 0.5


def grid_sample_attention(case: AttentionCase, sizes: Tensor) -> Tensor:
    """The op by ``torch.nn.functional.grid_sample``, [B, Q, M·D]; coordinates and sums in float32."""
    value, offsets = case.value.float(), case.sampling_offsets
    batch, _, heads, channels = value.shape
    queries = offsets.shape[1]
    grids = (2 * locations(case, sizes) - 1).transpose(1, 2).flatten(0, 1)
    weights = case.attention_logits.float().softmax(-1).transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([height * width for height, width in SHAPES], dim=-1)
    samples = [
        F.grid_sample(part.unflatten(-1, shape), grids[:, :, level], align_corners=False)
        for level, (part, shape) in enumerate(zip(maps, SHAPES, strict=True))
    ]
    result = (torch.cat(samples, -1) * weights).sum(-1)
    return result.view(batch, heads * channels, queries).transpose(1, 2).to(case.value.dtype)


def block_threads(queries: int, heads: int, channels: int) -> int:
    """Threads of a block as DCNv4's ``findspec`` chooses them: as many queries as divide all, within its limits."""
    of_query = heads * channels // CHANNELS_OF_THREAD
    most = min(MOST_QUERIES_OF_BLOCK, MOST_THREADS_OF_BLOCK // of_query)
    return of_query * max((count for count in range(1, most + 1) if queries % count == 0), default=1)


class PeerCall:
    """A case in the form that a kernel takes, with a buffer for its result."""

    def __init__(self, kernel: PeerKernel, library: PeerLibrary, case: AttentionCase) -> None:
        """Prepare; :class:`InputError` if the kernel has no such type."""
        if case.value.dtype not in kernel.computes:
            raise InputError(f"the kernel has no {str(case.value.dtype).removeprefix('torch.')}")
        self._kernel, self._library, self._case = kernel, library, case
        self.type = kernel.computes[case.value.dtype]
        device = case.value.device
        self._sizes = level_sizes(device)
        counts = torch.tensor([height * width for height, width in SHAPES])
        self._shapes = torch.tensor(SHAPES).to(device, kernel.index_type)
        self._starts = (counts.cumsum(0) - counts).to(device, kernel.index_type)
        self._value, self._locations, self._weights = self.prepare()
        batch, queries = self._locations.shape[:2]
        _, tokens, heads, channels = self._value.shape
        self.output = torch.empty(batch, queries, heads * channels, dtype=self.type, device=device)
        self.arguments = PeerAttention(
            value=address(self._value),
            spatial_shapes=address(self._shapes),
            level_starts=address(self._starts),
            locations=address(self._locations),
            weights=None if self._weights is None else address(self._weights),
            output=address(self.output),
            batch=batch,
            tokens=tokens,
            heads=heads,
            channels=channels,
            levels=len(SHAPES),
            queries=queries,
            points=case.sampling_offsets.shape[4],
            type=TYPES[self.type],
            block_threads=block_threads(batch * queries, heads, channels),
        )

    def prepare(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Value, locations and weights as the kernel takes them: the work that our op has inside."""
        case, kernel = self._case, self._kernel
        batch, queries, heads, levels, points, _ = case.sampling_offsets.shape
        value = case.value.to(self.type)
        where = locations(case, self._sizes).to(self.type)
        if not kernel.fused_softmax:
            weights = case.attention_logits.softmax(-1, dtype=torch.float32).to(self.type)
            return value, where, weights.view(batch, queries, heads, levels, points)
        both = torch.cat((where.flatten(3), case.attention_logits.to(self.type)), -1)
        padding = -queries % kernel.query_multiple
        return value, F.pad(both, (0, 0, 0, 0, 0, padding)) if padding else both, None

    def launch(self) -> None:
        """Enqueue on torch's current stream."""
        self._library.launch(self.arguments, current_stream(self.output))

    def result(self) -> Tensor:
        """[B, Q, M·D] of the case's queries."""
        return self.output[:, : self._case.sampling_offsets.shape[1]]
