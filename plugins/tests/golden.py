"""Write cases and results of the PyTorch twins for the host tests: ``golden.py FILE``.

A case is a run of arrays, each a line ``name dtype dimension…`` and its bytes; a line ``end`` closes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from sparse_detr_deploy.modeling.ops import ms_deform_attn, select_tokens

DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16", torch.int64: "int64"}
Case = dict[str, Tensor]


def attention_case(
    generator: torch.Generator,
    shapes: list[tuple[int, int]],
    *,
    dtype: torch.dtype = torch.float32,
    batch: int = 2,
    queries: int = 7,
    heads: int = 3,
    channels: int = 32,
    points: int = 4,
    box: bool = False,
    shared: bool = False,
    float_reference: bool = False,
    reach: float = 3.0,
    sharpness: float = 2.0,
    shift: float = 0.0,
) -> Case:
    """One call of MSDeformAttn with inputs of ``dtype``; the result is the twin's in float32 from the same numbers."""

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    levels = len(shapes)
    value = normal(batch, sum(h * w for h, w in shapes), heads, channels).to(dtype)
    reference = torch.rand(
        1 if shared else batch, queries, 1 if shared else levels, 4 if box else 2, generator=generator
    )
    reference = reference.to(torch.float32 if float_reference else dtype)
    offsets = (normal(batch, queries, heads, levels, points, 2) * reach).to(dtype)
    logits = (normal(batch, queries, heads, levels * points) * sharpness + shift).to(dtype)
    expected = ms_deform_attn(value.float(), shapes, reference.float(), offsets.float(), logits.float())
    return {
        "value": value,
        "spatial_shapes": torch.tensor(shapes),
        "reference_points": reference,
        "sampling_offsets": offsets,
        "attention_logits": logits,
        "output": expected.contiguous(),
    }


def attention_cases() -> Iterator[Case]:
    """Every head width and type, odd numbers of queries, levels and points, far samples, one-pixel levels.

    And logits whose exponentials float32 does not hold: the softmax takes the largest off first.
    """
    generator = torch.Generator().manual_seed(0)
    pyramid = [(6, 9), (3, 5), (2, 3), (1, 1)]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for channels in range(8, 65, 8):
            yield attention_case(generator, pyramid, dtype=dtype, channels=channels)
        yield attention_case(generator, pyramid, dtype=dtype, box=True, float_reference=True)
        yield attention_case(generator, pyramid, dtype=dtype, shared=True, queries=131, heads=2)
        yield attention_case(generator, pyramid, dtype=dtype, reach=100.0)
        for shift in (-1000.0, 0.0, 1000.0):
            yield attention_case(generator, pyramid, dtype=dtype, sharpness=120.0, shift=shift, points=3)
        yield attention_case(generator, [(1, 1)], dtype=dtype, points=1, queries=1, batch=1, heads=1)
        yield attention_case(generator, [(5, 4), (1, 7), (3, 1)], dtype=dtype, points=3, box=True, queries=5)
        yield attention_case(generator, pyramid * 2, dtype=dtype, points=8, channels=16, box=True, shared=True)
        yield attention_case(generator, pyramid[:2], dtype=dtype, points=7, channels=8)


def selection_case(scores: Tensor, counts: list[int]) -> Case:
    """One call of SelectTokens."""
    num_keep = torch.tensor(counts)
    return {"scores": scores, "num_keep": num_keep, "indices": select_tokens(scores, num_keep)}


def selection_cases() -> Iterator[Case]:
    """All types and cache sizes, ties, NaN, infinities, both zeros, k = 1, k = N, unequal counts."""
    generator = torch.Generator().manual_seed(1)
    special = torch.tensor(
        [0.0, -0.0, float("nan"), -float("nan"), float("inf"), -float("inf"), 1.0, -1.0, 1e-40, -1e-40]
    )
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for tokens, counts in (
            (1, [1]),
            (9, [9]),
            (31, [1]),
            (33, [7, 20, 33]),
            (1000, [301, 300, 1]),
            (1783, [535]),
            (8193, [2458, 100]),
            (20481, [6144]),
            (32769, [9831]),
        ):
            scores = torch.randn(len(counts), tokens, generator=generator).to(dtype)
            yield selection_case(scores, counts)
        ties = torch.randint(-3, 3, (3, 700), generator=generator).to(dtype)
        yield selection_case(ties, [350, 40, 1])
        yield selection_case(ties, [123])
        yield selection_case(torch.zeros(2, 1500, dtype=dtype), [1000, 33])
        for keep in (1, 3, 8, 20):
            yield selection_case(special.repeat(2).expand(2, -1).contiguous().to(dtype), [keep, 20])


def write(path: Path, cases: Iterator[Case]) -> None:
    """Write the cases to ``path``."""
    with path.open("wb") as file:
        for case in cases:
            for name, tensor in case.items():
                header = " ".join([name, DTYPES[tensor.dtype], *map(str, tensor.shape)])
                data = tensor.contiguous().view(torch.uint8).flatten() if tensor.numel() else torch.empty(0)
                file.write(f"{header}\n".encode() + data.numpy().tobytes())
            file.write(b"end\n")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "ms_deform_attn.bin", attention_cases())
    write(folder / "select_tokens.bin", selection_cases())
