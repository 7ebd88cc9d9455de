"""A few small launches of every kind, for compute-sanitizer: ``python -m benchmarks.gpu.smoke LIBRARY``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from .kernels import ALWAYS_SPLIT, NEVER_SPLIT, Kernels

SHAPES = ((7, 9), (4, 5), (2, 3), (1, 1))


def main() -> int:
    """Launch both kernels over types, head widths and splits; exit code 0 if CUDA reports no error."""
    kernels = Kernels(Path(sys.argv[1]))
    tokens = sum(height * width for height, width in SHAPES)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for channels in (8, 24, 32, 64):
            value = torch.randn(2, tokens, 3, channels, device="cuda", dtype=dtype)
            reference = torch.rand(2, 13, 4, 4, device="cuda", dtype=dtype)
            offsets = torch.randn(2, 13, 3, 4, 4, 2, device="cuda", dtype=dtype) * 4
            logits = torch.randn(2, 13, 3, 16, device="cuda", dtype=dtype)
            for split in (NEVER_SPLIT, ALWAYS_SPLIT):
                kernels.ms_deform_attn(value, SHAPES, reference, offsets, logits, split=split)
        for count in (33, 2000, 20000, 40000):
            scores = torch.randn(2, count, device="cuda").to(dtype)
            kernels.select_tokens(scores, torch.tensor([count // 3, count // 7], device="cuda"), count // 3)
    torch.cuda.synchronize()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
