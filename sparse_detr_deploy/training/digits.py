"""Real handwritten digits (scikit-learn's copy of the UCI set: 1797 of 8×8 pixels), split by source digit."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.errors import BackendError, InputError

SPLITS = ("train", "val")
CLASS_NAMES = tuple(str(digit) for digit in range(10))
_VAL_SHARE = 0.2
_SPLIT_SEED = 20260101  # fixed, so that no seed of a scene can move a digit from one split to the other


@dataclasses.dataclass(frozen=True)
class Digits:
    """Source digits of one split: ``ink`` [n, 8, 8] float32 in 0..1 and ``labels`` [n] int64."""

    ink: NDArray[np.float32]
    labels: NDArray[np.int64]


@functools.cache
def load_split(split: str) -> Digits:
    """The digits of ``train`` or ``val``; no digit is in both.

    Raises:
        InputError: no such split.
        BackendError: scikit-learn is not installed.
    """
    if split not in SPLITS:
        raise InputError(f"the split {split!r} is not one of {', '.join(SPLITS)}")
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError:
        raise BackendError("scikit-learn is not installed: pip install 'sparse-detr-deploy[train]'") from None
    source = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(source.target))
    count = round(len(order) * _VAL_SHARE)
    chosen = np.sort(order[:count] if split == "val" else order[count:])
    return Digits((source.images[chosen] / 16).astype(np.float32), source.target[chosen].astype(np.int64))
