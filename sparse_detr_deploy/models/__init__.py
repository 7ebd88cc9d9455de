"""Trained models that come with the toolkit: small ones, for the demo, for verification and for trying things out."""

from __future__ import annotations

from pathlib import Path

DIGITS_CLASSES = tuple(str(digit) for digit in range(10))


def digits_checkpoint() -> Path:
    """The demo model: a thin Sparse DETR (ρ = 0.3) that finds handwritten digits; official layout, 160 × 160 images.

    Beside it lie ``digits.toml``, with which ``sparse-detr-train`` made it, and ``digits.log.jsonl``, the log of that
    run. Its labels are the digits, :data:`DIGITS_CLASSES`.
    """
    return Path(__file__).parent / "digits.pth"
