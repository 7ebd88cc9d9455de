"""Calls of the two ops as R50 at 800×1066 makes them, with the bytes that they must move."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sparse_detr_deploy.tokens import LevelShapes, num_keep, num_tokens

SHAPES: LevelShapes = ((100, 134), (50, 67), (25, 34), (13, 17))
HEADS, CHANNELS, POINTS = 8, 32, 4
RATIOS = (0.1, 0.3, 0.5, 1.0)
DECODER_QUERIES = 300


@dataclasses.dataclass(frozen=True)
class AttentionCase:
    """Inputs of one call on the GPU, in the order of the op but for the shapes."""

    value: Tensor
    reference_points: Tensor
    sampling_offsets: Tensor
    attention_logits: Tensor

    @property
    def inputs(self) -> tuple[Tensor, LevelShapes, Tensor, Tensor, Tensor]:
        """All arguments of the op."""
        return self.value, SHAPES, self.reference_points, self.sampling_offsets, self.attention_logits

    @property
    def floor_bytes(self) -> int:
        """Each input read once and the output written once."""
        queries = self.sampling_offsets.shape[1]
        output = queries * HEADS * CHANNELS * self.value.element_size()
        tensors = (self.value, self.reference_points, self.sampling_offsets, self.attention_logits)
        return output + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def gathered_bytes(self) -> int:
        """Four corner rows of each sample, as the lanes load them."""
        samples = self.attention_logits.numel()
        return samples * 4 * CHANNELS * self.value.element_size()


def token_centres() -> Tensor:
    """[N, 2] (x, y) in 0..1 of every token, in the order of the tokens."""
    centres = []
    for height, width in SHAPES:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        centres.append(torch.stack((x, y), -1).flatten(0, 1))
    return torch.cat(centres)


def attention_case(
    queries: int, dtype: torch.dtype, seed: int, *, box: bool = False, device: str = "cuda"
) -> AttentionCase:
    """Encoder queries lie on tokens in ascending order, decoder queries (``box``) anywhere; offsets of a few pixels."""
    generator = torch.Generator().manual_seed(seed)
    tokens = num_tokens(SHAPES)
    if box:
        centres = torch.rand(queries, 2, generator=generator)
        points = torch.cat((centres, torch.rand(queries, 2, generator=generator) * 0.3 + 0.02), -1)
    else:
        chosen = torch.randperm(tokens, generator=generator)[:queries].sort().values
        points = token_centres()[chosen]
    levels = len(SHAPES)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    return AttentionCase(
        normal(1, tokens, HEADS, CHANNELS).to(device, dtype),
        # float32, as a half-precision graph keeps them
        points[None, :, None].expand(1, -1, levels, -1).contiguous().to(device),
        (normal(1, queries, HEADS, levels, POINTS, 2) * 2.0).to(device, dtype),
        normal(1, queries, HEADS, levels * POINTS).to(device, dtype),
    )


def queries_at(ratio: float) -> int:
    """Tokens that the encoder refines at a keep ratio; all of them at 1."""
    tokens = num_tokens(SHAPES)
    return tokens if ratio >= 1 else num_keep(tokens, ratio, tokens)
