"""Comparing what an artefact gives with what the PyTorch module gives on the same inputs.

Selection is a discontinuity: two correct implementations may swap tokens whose scores differ by rounding, and what
comes after then differs a lot. So it goes in two steps: the scores and what is selected by them, and then everything
else given the same selections.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import BackendError, VerificationError
from sparse_detr_deploy.export.matching import worst_mismatch
from sparse_detr_deploy.export.tolerances import Tolerances, tolerances_of
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import DetectorOutput, SparseDETR
from sparse_detr_deploy.postprocessing import best_pairs, finish
from sparse_detr_deploy.preprocessing import Feed


@torch.no_grad()
def compare(
    model: SparseDETR,
    metadata: Metadata,
    feed: Feed,
    keep_ratio: float | None,
    found: Feed,
    report: VerificationReport,
    where: str,
) -> None:
    """Compare the outputs and probes ``found`` of one run on ``feed`` with ``model``; the differences go to ``report``.

    Raises:
        VerificationError: a difference beyond the tolerances; the message begins with ``where``, names the worst and
            says what to do.
        BackendError: there is not enough memory for the module.
    """
    try:
        _check_finite(found, metadata, where)
        _compare(model, metadata, feed, keep_ratio, found, report, where)
    except VerificationError as error:
        raise VerificationError(f"{error}{_mend(metadata)}") from None
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        raise BackendError(
            f"{where}: not enough memory to run the PyTorch module that it is compared with ({str(error).strip()}): "
            "export with a smaller --batch or --size"
        ) from None


def _mend(metadata: Metadata) -> str:
    """What to do about a difference."""
    if metadata.precision == "float16":
        return ": export with --precision fp32"
    return (
        f"; nothing was published; report it with the checkpoint's architecture ({metadata.architecture}) and the "
        "versions of torch, onnx and onnxruntime"
    )


def _check_finite(found: Feed, metadata: Metadata, where: str) -> None:
    for name, array in found.items():
        if not np.isfinite(array).all():
            half = metadata.precision == "float16"
            fault = "values that overflow half precision" if half else "NaN or infinity"
            raise VerificationError(f"{where}: the output {name} holds {fault}")


def _compare(
    model: SparseDETR,
    metadata: Metadata,
    feed: Feed,
    keep_ratio: float | None,
    found: Feed,
    report: VerificationReport,
    where: str,
) -> None:
    allowed = tolerances_of(metadata)
    images, sizes = _torch_inputs(feed, metadata)
    expected = model(
        images,
        sizes,
        keep_ratio,
        selected_tokens=_optional_tensor(found, "probe_indices"),
        selected_proposals=_optional_tensor(found, "probe_proposals"),
        auxiliary=True,
    )
    if metadata.rho is not None:
        grid = model.grid(images.shape[2], images.shape[3], sizes)
        own = model.transformer.select(expected.token_scores, grid, float(keep_ratio or 0))
        _check_tokens(expected.token_scores.numpy(), own.numpy(), found, allowed, report, where)
    if expected.proposals is not None:
        _check_proposals(model, expected.proposals.logits, found["probe_proposals"], allowed, report, where)
    if metadata.outputs == "raw":
        _check_raw(expected, found, allowed, report, where)
    else:
        _check_detections(expected, found, metadata, allowed, report, where)


def _optional_tensor(found: Feed, name: str) -> torch.Tensor | None:
    return torch.from_numpy(found[name]) if name in found else None


def _torch_inputs(feed: Feed, metadata: Metadata) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Normalised float32 images with zero padding, and their sizes."""
    images = torch.from_numpy(feed["images"])
    sizes = torch.from_numpy(feed["image_sizes"]) if metadata.padded else None
    if metadata.input_dtype == "uint8":
        mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (metadata.mean, metadata.std))
        images = (images.float() - mean) / std
        if sizes is not None:
            for image, (height, width) in zip(images, sizes.tolist(), strict=True):
                image[:, height:], image[:, :, width:] = 0, 0
    return images, sizes


def _check_tokens(
    scores: NDArray[Any],
    own: NDArray[Any],
    found: Feed,
    allowed: Tolerances,
    report: VerificationReport,
    where: str,
) -> None:
    """The artefact's scores are the module's within rounding, and it took exactly the highest of its own."""
    for image, (expected, row, mine, taken) in enumerate(
        zip(scores, found["probe_scores"], own, found["probe_indices"], strict=True)
    ):
        difference = float(np.abs(expected - row).max()) / max(1.0, float(np.abs(expected).max()))
        if not difference <= allowed.token_score:
            raise VerificationError(
                f"{where}, image {image}: token scores differ by {difference:.2e} (allowed: {allowed.token_score:g})"
            )
        report.token_score = max(report.token_score, difference)
        kept, wanted = np.unique(taken), np.unique(mine)
        if kept.size != wanted.size:
            raise VerificationError(f"{where}, image {image}: {kept.size} tokens are selected instead of {wanted.size}")
        left_out = np.delete(row, kept)
        if left_out.size and left_out.max() > row[kept].min():
            raise VerificationError(
                f"{where}, image {image}: a token of score {left_out.max():.5f} is left out, but one of "
                f"{row[kept].min():.5f} is selected"
            )
        swapped = np.setdiff1d(kept, wanted).size
        report.swapped_tokens = max(report.swapped_tokens, swapped)
        report.shared_tokens = min(report.shared_tokens, 1 - swapped / kept.size)


def _check_proposals(
    model: SparseDETR,
    logits: torch.Tensor,
    found: NDArray[Any],
    allowed: Tolerances,
    report: VerificationReport,
    where: str,
) -> None:
    """The artefact's queries start from the best proposals; only logits equal within rounding may have swapped."""
    count = model.config.num_queries
    objectness = logits.amax(-1) if model.config.eff_specific_head else logits[..., 0]
    best = objectness.topk(count, dim=1).indices.numpy()
    for image, (row, mine, taken) in enumerate(zip(objectness.numpy(), best, found, strict=True)):
        if np.unique(taken).size != count:
            raise VerificationError(f"{where}, image {image}: {np.unique(taken).size} proposals instead of {count}")
        lost, gained = np.setdiff1d(mine, taken), np.setdiff1d(taken, mine)
        if lost.size == 0:
            continue
        gap = float(row[lost].max() - row[gained].min()) / max(1.0, float(np.abs(row).max()))
        if not gap <= allowed.proposal:
            raise VerificationError(
                f"{where}, image {image}: {lost.size} proposals differ, with logits up to {gap:.2e} apart"
            )
        report.swapped_proposals = max(report.swapped_proposals, lost.size)
        report.shared_proposals = min(report.shared_proposals, 1 - lost.size / count)


def _check_raw(
    expected: DetectorOutput, found: Feed, allowed: Tolerances, report: VerificationReport, where: str
) -> None:
    for name in ("pred_logits", "pred_boxes"):
        differences = np.abs(getattr(expected, name).numpy() - found[name])
        worst = float(differences.max())
        median = max(float(np.median(image)) for image in differences)
        if not worst <= allowed.raw:
            raise VerificationError(f"{where}: {name} differ by {worst:.2e} (allowed: {allowed.raw:g})")
        if not median <= allowed.raw * allowed.median:
            raise VerificationError(
                f"{where}: half of the {name} differ by {median:.2e} or more (allowed: {allowed.raw * allowed.median:g})"
            )
        report.raw, report.raw_median = max(report.raw, worst), max(report.raw_median, median)


def _check_detections(
    expected: DetectorOutput,
    found: Feed,
    metadata: Metadata,
    allowed: Tolerances,
    report: VerificationReport,
    where: str,
) -> None:
    canvas = (metadata.height, metadata.width)
    limits = np.array([canvas[1], canvas[0]] * 2, dtype=np.float32)
    logits, boxes = expected.pred_logits.numpy(), expected.pred_boxes.numpy()
    for image, result in enumerate(finish(found, [canvas] * len(logits), metadata)):
        corners, scores, labels = best_pairs(logits[image], boxes[image], logits[image].size)
        pairs = Detections((corners * limits).clip(0, limits), scores, labels, canvas)
        mismatch = worst_mismatch(pairs, result, allowed.score, allowed.box)
        if not mismatch.within(allowed.score, allowed.box):
            raise VerificationError(
                f"{where}, image {image}: {mismatch.described}: score differs by {mismatch.score:.2e} "
                f"(allowed: {allowed.score:g}), box by {mismatch.box:.3f} pixels (allowed: {allowed.box:g})"
            )
        score_median, box_median = allowed.score * allowed.median, allowed.box * allowed.median
        if not (mismatch.score_median <= score_median and mismatch.box_median <= box_median):
            raise VerificationError(
                f"{where}, image {image}: half of the detections differ by a score of {mismatch.score_median:.2e} or more "
                f"(allowed: {score_median:g}), or a box by {mismatch.box_median:.3f} pixels (allowed: {box_median:g})"
            )
        report.score, report.box_pixels = max(report.score, mismatch.score), max(report.box_pixels, mismatch.box)
        report.score_median = max(report.score_median, mismatch.score_median)
        report.box_median = max(report.box_median, mismatch.box_median)
