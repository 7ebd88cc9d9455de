"""How far an artefact may be off from the float32 module, by its precision."""

from __future__ import annotations

import dataclasses

from sparse_detr_deploy.metadata import Metadata

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.1
RAW_TOLERANCE = 2e-3


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """How far an artefact may be off: at its worst, and in the median of what one image gives.

    Attributes:
        score: of a detection.
        box: shift of a corner in pixels.
        raw: difference of a logit or a box coordinate.
        token_score: of a token, relative to the largest of the image (at least 1).
        proposal: logits of proposals that may swap, on the same scale.
        median: of scores, boxes and raw outputs, as a share of the worst that is allowed.
    """

    score: float = SCORE_TOLERANCE
    box: float = BOX_TOLERANCE
    raw: float = RAW_TOLERANCE
    token_score: float = SCORE_TOLERANCE
    proposal: float = 2 * RAW_TOLERANCE  # each side is off by one tolerance at most
    median: float = 1.0


FLOAT32 = Tolerances()


def tolerances_of(metadata: Metadata) -> Tolerances:
    """What is asked of an artefact of this precision.

    float16: two to ten times what was measured on the reference cases and on random weights, R50 and Swin-T (worst:
    token scores 1.2e-3, scores 2e-3, logits 0.05, boxes 0.4 % of the longer side; medians: scores 2e-4, logits 1e-3,
    boxes 0.05 %). Boxes go by the canvas, because the precision of a half is relative. ONNX Runtime on the CPU rounds
    to half less often than a GPU: PyTorch, which rounds after every operation, is up to three times as far off.
    """
    if metadata.precision == "float32":
        return FLOAT32
    box = 0.01 * max(metadata.height, metadata.width)
    return Tolerances(score=0.01, box=box, raw=0.1, token_score=4e-3, proposal=0.01, median=0.1)
