"""What the verification of an artefact found."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class VerificationReport:
    """What was compared, and the worst differences: scores, box shift in pixels, raw outputs, swapped selections.

    ``token_score`` is relative to the largest score of the image. ``swapped_tokens`` and ``swapped_proposals`` are the
    most that one image had; they are allowed where scores are equal within rounding. ``shared_tokens`` and
    ``shared_proposals`` say the same as the smallest share that one image has in common with the module's own choice.
    ``score_median``, ``box_median`` and ``raw_median`` are the largest median of one image. ``images`` counts different
    ones, however often each was run.
    """

    batches: list[int] = dataclasses.field(default_factory=list)
    keep_ratios: list[float] = dataclasses.field(default_factory=list)
    kernels: list[str] = dataclasses.field(default_factory=list)
    images: int = 0
    score: float = 0.0
    box_pixels: float = 0.0
    raw: float = 0.0
    token_score: float = 0.0
    swapped_tokens: int = 0
    swapped_proposals: int = 0
    score_median: float = 0.0
    box_median: float = 0.0
    raw_median: float = 0.0
    shared_tokens: float = 1.0
    shared_proposals: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        return dataclasses.asdict(self)
