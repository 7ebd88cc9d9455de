"""A picture of what a detector finds, and of which tokens it refines to find that."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sparse_detr_deploy.benchmarks.kept_tokens import draw_kept_tokens
from sparse_detr_deploy.benchmarks.picture_mark import check_replaceable_picture, marked
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import InputError, OutputError
from sparse_detr_deploy.export.publish import check_output, publish
from sparse_detr_deploy.images import Image
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.opencv import cv2
from sparse_detr_deploy.preprocessing import prepare, resized

_TILE = 420  # pixels of a tile's longer side, at least
_GAP = 8
SUFFIXES = (".jpg", ".png")


def check_picture(path: Path) -> None:
    """Raise where no picture can be written to ``path``."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a picture is written as {' or '.join(SUFFIXES)}; change the suffix")
    check_replaceable_picture(path)
    check_output(path, overwrite=True)


def draw_picture(
    artefact: Path,
    model: SparseDETR,
    images: Sequence[Image],
    keep_ratios: Sequence[float],
    path: Path,
    least_score: float,
) -> None:
    """Write a picture with a column for each image: on top the detections of ``artefact``, below the kept tokens.

    Args:
        artefact: file of a sparse detector without padding.
        model: the network that it was exported from; it tells the tokens.
        images: uint8 BGR [H, W, 3]; they are shown as they lie on the canvas.
        keep_ratios: ρ of each picture of tokens; a dynamic artefact detects at the first. Empty: the artefact's own.
        path: ``.jpg`` or ``.png``.
        least_score: detections below are not drawn.

    Raises:
        InputError: no images; the artefact has padding, runs dense, not at a given ratio, or is of another checkpoint.
    """
    if not images:
        raise InputError("there is no image to draw: give some that can be read")
    with Detector.load(artefact) as detector:
        ratios = _ratios(detector.metadata, model, keep_ratios)
        columns = [_column(detector, model, image, ratios, least_score) for image in images]
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85] if path.suffix.lower() == ".jpg" else []
    encoded, data = cv2.imencode(path.suffix.lower(), np.concatenate(columns, axis=1), quality)
    if not encoded:
        raise OutputError(
            f"{path} cannot be encoded at {columns[0].shape[0]} pixels height: ask for fewer images or ratios"
        )
    with publish(path, overwrite=True) as temporary:
        temporary.write_bytes(marked(data.tobytes(), path.suffix.lower()))


def _ratios(metadata: Metadata, model: SparseDETR, wanted: Sequence[float]) -> tuple[float, ...]:
    told = metadata.checkpoint.get("sha256")
    if told and model.source.get("sha256", told) != told:
        raise InputError(
            f"the artefact was exported from {metadata.checkpoint.get('file')}, not from {model.source['file']}: "
            "give the checkpoint that it was exported from"
        )
    if metadata.padded:
        raise InputError("pictures are drawn of artefacts without padding: export one without --padded")
    if not model.config.is_sparse or (metadata.rho is None and not metadata.dynamic_rho):
        raise InputError("the artefact has a dense encoder, which keeps every token: give a sparse one")
    if metadata.dynamic_rho:
        return tuple(wanted) or (model.config.rho,)
    assert metadata.rho is not None
    if any(ratio != metadata.rho for ratio in wanted):
        raise InputError(f"the artefact runs at ρ = {metadata.rho:g} only: export with --rho dynamic to draw others")
    return (metadata.rho,)


def _column(detector: Detector, model: SparseDETR, image: Image, ratios: Sequence[float], least_score: float) -> Image:
    metadata = detector.metadata
    canvas = resized(image, metadata.height, metadata.width)
    found = detector(canvas, keep_ratio=ratios[0] if metadata.dynamic_rho else None).above(least_score)
    factor = max(1, -(-_TILE // max(canvas.shape[:2])))
    tiles = [_caption(_enlarged(found, factor).draw(_scaled(canvas, factor)), f"rho {ratios[0]:g}")]
    as_float = dataclasses.replace(metadata, input_dtype="float32")
    pixels = torch.from_numpy(prepare([canvas], as_float, keep_ratio=ratios[0])["images"])
    for ratio in ratios:
        with torch.no_grad():
            kept = model(pixels, keep_ratio=ratio).selected_tokens
        assert kept is not None
        shown = draw_kept_tokens(_scaled(canvas, factor), metadata.level_shapes, np.unique(kept[0].numpy()))
        tiles.append(_caption(shown, f"tokens kept at rho {ratio:g}"))
    return np.concatenate([_framed(tile) for tile in tiles], axis=0)


def _scaled(image: Image, factor: int) -> Image:
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _enlarged(found: Detections, factor: int) -> Detections:
    height, width = found.image_size
    return dataclasses.replace(found, boxes=found.boxes * factor, image_size=(height * factor, width * factor))


def _caption(image: Image, text: str) -> Image:
    """Write ``text`` into the lower left corner, in place."""
    (width, height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)
    bottom = image.shape[0]
    cv2.rectangle(image, (0, bottom - height - 2 * baseline), (width + 12, bottom), (0, 0, 0), cv2.FILLED)
    place = (6, bottom - baseline)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def _framed(image: Image) -> Image:
    return np.asarray(
        cv2.copyMakeBorder(image, _GAP, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)), dtype=np.uint8
    )
