"""Verification of an artefact against the PyTorch module, before it is published.

Selection is a discontinuity: two correct implementations may swap tokens whose scores differ by rounding, and what
comes after then differs a lot. So it goes in two steps: the selections, which may differ only where the scores are
equal within rounding; then the detections given the same selections.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import VerificationError
from sparse_detr_deploy.export.graph import add_probe_outputs
from sparse_detr_deploy.export.matching import aligned_difference, worst_mismatch
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.images import Image
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import DetectorOutput, SparseDETR
from sparse_detr_deploy.postprocessing import best_pairs, finish
from sparse_detr_deploy.preprocessing import Feed, prepare
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.1
RAW_TOLERANCE = 2e-3
_SELECTION_TOLERANCE = 1e-3


@dataclasses.dataclass
class VerificationReport:
    """Worst differences over all batches, ratios and kernels: scores, box shift in pixels, raw outputs, swapped tokens."""

    batches: list[int] = dataclasses.field(default_factory=list)
    keep_ratios: list[float] = dataclasses.field(default_factory=list)
    kernels: list[str] = dataclasses.field(default_factory=list)
    images: int = 0
    score: float = 0.0
    box_pixels: float = 0.0
    raw: float = 0.0
    swapped_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        return dataclasses.asdict(self)


def verify(
    model: SparseDETR,
    spec: ExportSpec,
    proto: onnx.ModelProto,
    metadata: Metadata,
    images: Sequence[Image] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> VerificationReport:
    """Compare ``proto`` with ``model`` at every promised batch, with the function bodies and with the fused kernels.

    Args:
        model: the module that was exported.
        spec: what was exported.
        proto: the exported graph, before custom ops are inlined.
        metadata: of the artefact.
        images: uint8 BGR images to compare on; default: synthetic ones.
        progress: told what is compared.

    Raises:
        VerificationError: a difference beyond the tolerances; the message names the worst offender.
    """
    report = VerificationReport()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probed.onnx"
        probed = add_probe_outputs(proto)
        onnx.save(probed, path)
        for native in (False, True):
            runner = OnnxRuntimeRunner(path, native=native)
            kernels = str(runner.describe()["custom_ops"])
            if native and kernels != "native":
                continue
            report.kernels.append(kernels)
            for batch in sorted(set(spec.batch)):
                for ratio in _ratios(model, spec):
                    progress(f"batch {batch}" + (f", ρ {ratio:g}" if ratio else "") + f", {kernels}")
                    where = f"{metadata.name}, batch {batch}, ρ {ratio}, {kernels}"
                    feed = _feed(spec, metadata, batch, ratio, images)
                    _compare(model, metadata, feed, ratio, runner.run(feed), report, where)
                    report.batches.append(batch)
                    report.images += batch
            runner.close()
    report.batches = sorted(set(report.batches))
    report.keep_ratios = [ratio for ratio in _ratios(model, spec) if ratio]
    return report


def _ratios(model: SparseDETR, spec: ExportSpec) -> list[float | None]:
    if not model.config.is_sparse:
        return [None]
    return [0.1, model.config.rho, 1.0] if spec.dynamic_rho else [spec.rho]


def synthetic_image(seed: int, height: int, width: int) -> Image:
    """A uint8 BGR image [H, W, 3] of smooth blobs and noise, the same for the same seed."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = generator.normal(110, 20, (height, width, 3)).astype(np.float32)
    for _ in range(12):
        centre_y, centre_x = generator.uniform(0, height), generator.uniform(0, width)
        radius = generator.uniform(0.04, 0.25) * min(height, width)
        blob = np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * radius * radius))
        image += blob[:, :, None] * generator.uniform(-120, 120, 3).astype(np.float32)
    return image.clip(0, 255).astype(np.uint8)


def _feed(
    spec: ExportSpec, metadata: Metadata, batch: int, ratio: float | None, images: Sequence[Image] | None
) -> Feed:
    chosen = []
    for index in range(batch):
        if images:
            chosen.append(images[index % len(images)])
        else:
            # every other image of a padded artefact leaves part of the canvas free
            shrink = 4 if spec.padded and index % 2 == 0 else 5
            chosen.append(synthetic_image(index, spec.height * shrink // 5, spec.width))
    dynamic = ratio if metadata.dynamic_rho else None
    return prepare(chosen, metadata, keep_ratio=dynamic)


@torch.no_grad()
def _compare(
    model: SparseDETR,
    metadata: Metadata,
    feed: Feed,
    ratio: float | None,
    found: Feed,
    report: VerificationReport,
    where: str,
) -> None:
    images = torch.from_numpy(feed["images"])
    sizes = torch.from_numpy(feed["image_sizes"]) if metadata.padded else None
    if metadata.input_dtype == "uint8":
        mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (metadata.mean, metadata.std))
        images = (images.float() - mean) / std
        if sizes is not None:
            for image, (height, width) in zip(images, sizes.tolist(), strict=True):
                image[:, height:], image[:, :, width:] = 0, 0
    selections = {
        "selected_tokens": torch.from_numpy(found["probe_indices"]) if "probe_indices" in found else None,
        "selected_proposals": torch.from_numpy(found["probe_proposals"]) if "probe_proposals" in found else None,
    }
    expected = model(images, sizes, ratio, **selections)
    if "probe_indices" in found:
        own = model.transformer.select(expected.token_scores, _grid(model, images, sizes), float(ratio or 0))
        scores = expected.token_scores.numpy()
        report.swapped_tokens = max(
            report.swapped_tokens, _check_selection(scores, own.numpy(), found["probe_indices"], where)
        )
    _check_outputs(expected, found, metadata, report, where)


def _grid(model: SparseDETR, images: torch.Tensor, sizes: torch.Tensor | None) -> Any:
    return model.grid(images.shape[2], images.shape[3], sizes)


def _check_selection(scores: NDArray[Any], expected: NDArray[Any], found: NDArray[Any], where: str) -> int:
    """Number of tokens that only one side selected; their scores must be equal within rounding."""
    swapped = 0
    for image, (row, one, other) in enumerate(zip(scores, expected, found, strict=True)):
        only_one, only_other = np.setdiff1d(one, other), np.setdiff1d(other, one)
        if only_one.size != only_other.size:
            raise VerificationError(
                f"{where}, image {image}: {np.unique(other).size} tokens are selected instead of {np.unique(one).size}"
            )
        if only_one.size == 0:
            continue
        swapped += only_one.size
        gap = float(row[only_one].max() - row[only_other].min())
        spread = max(1.0, float(np.abs(row).max()))
        if gap > _SELECTION_TOLERANCE * spread:
            raise VerificationError(
                f"{where}, image {image}: {only_one.size} selected tokens differ, with scores up to {gap:.2e} apart; "
                "only rounding may swap them"
            )
    return swapped


def _check_outputs(
    expected: DetectorOutput, found: Feed, metadata: Metadata, report: VerificationReport, where: str
) -> None:
    logits, boxes = expected.pred_logits.numpy(), expected.pred_boxes.numpy()
    canvas = (metadata.height, metadata.width)
    if metadata.outputs == "raw":
        for image in range(len(logits)):
            one = np.concatenate([logits[image], boxes[image]], axis=1)
            other = np.concatenate([found["pred_logits"][image], found["pred_boxes"][image]], axis=1)
            report.raw = max(report.raw, aligned_difference(one, other))
        if not report.raw <= RAW_TOLERANCE:
            raise VerificationError(f"{where}: raw outputs differ by {report.raw:.2e} (allowed: {RAW_TOLERANCE:g})")
        return
    results = finish(found, [canvas] * len(logits), metadata)
    for image, result in enumerate(results):
        corners, scores, labels = best_pairs(logits[image], boxes[image], metadata.num_detections)
        limits = np.array([canvas[1], canvas[0]] * 2, dtype=np.float32)
        truth = Detections((corners * limits).clip(0, limits), scores, labels, canvas)
        mismatch = worst_mismatch(truth, result, SCORE_TOLERANCE)
        if not mismatch.within(SCORE_TOLERANCE, BOX_TOLERANCE):
            raise VerificationError(
                f"{where}, image {image}: {mismatch.described}: score differs by {mismatch.score:.2e} "
                f"(allowed: {SCORE_TOLERANCE:g}), box by {mismatch.box:.3f} pixels (allowed: {BOX_TOLERANCE:g})"
            )
        report.score, report.box_pixels = max(report.score, mismatch.score), max(report.box_pixels, mismatch.box)


def read_verification_images(folder: Path, on_error: Callable[[str], None]) -> Iterator[Image]:
    """Up to 16 images of ``folder``; unreadable ones are told to ``on_error``."""
    from sparse_detr_deploy.images import list_images, readable_images

    for count, (_, image) in enumerate(readable_images(list_images(folder), on_error)):
        if count == 16:
            return
        yield image
