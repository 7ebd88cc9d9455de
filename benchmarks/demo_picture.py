"""The picture of ``make demo``: what is found, and which tokens the detector looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from sparse_detr_deploy.benchmarks.kept_tokens import draw_kept_tokens
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export.publish import publish
from sparse_detr_deploy.images import Image
from sparse_detr_deploy.modeling import SparseDETR

_TILE = 420  # pixels of a tile's longer side, at least
_GAP = 8
_LEAST_SCORE = 0.4


def draw_demo(
    artefact: Path, model: SparseDETR, images: Sequence[Image], keep_ratios: Sequence[float], path: Path
) -> None:
    """Write a JPEG: a column for each image; on top the detections of ``artefact`` (dynamic ρ) at the first ratio, below
    the tokens that ``model`` keeps at each of ``keep_ratios``."""
    columns = []
    with Detector.load(artefact) as detector:
        metadata = detector.metadata
        for image in images:
            size = (metadata.width, metadata.height)
            canvas = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            found = detector(canvas, keep_ratio=keep_ratios[0]).above(_LEAST_SCORE)
            factor = max(1, -(-_TILE // max(canvas.shape[:2])))
            tiles = [_caption(_enlarged(found, factor).draw(_scaled(canvas, factor)), f"rho {keep_ratios[0]:g}")]
            pixels = torch.from_numpy(detector.preprocess([canvas], keep_ratio=keep_ratios[0])["images"])
            for ratio in keep_ratios:
                with torch.no_grad():
                    kept = model(pixels, keep_ratio=ratio).selected_tokens
                assert kept is not None
                shown = draw_kept_tokens(_scaled(canvas, factor), metadata.level_shapes, np.unique(kept[0].numpy()))
                tiles.append(_caption(shown, f"tokens kept at rho {ratio:g}"))
            columns.append(np.concatenate([_framed(tile) for tile in tiles], axis=0))
    encoded, data = cv2.imencode(".jpg", np.concatenate(columns, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not encoded:
        raise OutputError(f"{path} cannot be encoded as JPEG")
    with publish(path, overwrite=True) as temporary:
        temporary.write_bytes(data.tobytes())


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
