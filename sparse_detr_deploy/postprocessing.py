"""From the outputs of an artefact to detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.arguments import check_whole
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.preprocessing import Feed, to_pixels
from sparse_detr_deploy.short_repr import short_repr
from sparse_detr_deploy.signature import check_outputs

_Floats = NDArray[np.float32]


def finish(
    outputs: Feed, image_sizes: Sequence[tuple[int, ...]], metadata: Metadata, names: Sequence[str] | None = None
) -> list[Detections]:
    """Detections in original pixels, one for each of the first images of the batch.

    Args:
        outputs: of the artefact, ``boxes``, ``scores``, ``labels`` or ``pred_logits``, ``pred_boxes``.
        image_sizes: original (h, w) of each image, or the whole shape; a batch may hold more images than these (it was
            filled up).
        metadata: of the artefact.
        names: of the images, for messages.

    Raises:
        InputError: outputs or sizes are none of the artefact's.
        BackendError: an output is not finite; the message names the image.
    """
    sizes = _checked_sizes(image_sizes)
    check_outputs(outputs, metadata, len(sizes))
    results = []
    for index, size in enumerate(sizes):
        _check_finite(outputs, index, metadata, names[index] if names else f"image {index}")
        if metadata.outputs == "raw":
            boxes, scores, labels = best_pairs(
                outputs["pred_logits"][index], outputs["pred_boxes"][index], metadata.num_detections
            )
        else:
            boxes, scores, labels = (outputs[name][index] for name in ("boxes", "scores", "labels"))
        results.append(
            Detections(
                to_pixels(boxes, size),
                scores.astype(np.float32),
                labels.astype(np.int32),
                size,
                metadata.class_names,
            )
        )
    return results


def _check_finite(outputs: Feed, index: int, metadata: Metadata, name: str) -> None:
    """Raise :class:`BackendError` where the outputs of the image ``index``, called ``name``, hold NaN or infinity."""
    for key in ("pred_logits", "pred_boxes") if metadata.outputs == "raw" else ("scores", "boxes"):
        if not np.isfinite(outputs[key][index]).all():
            raise BackendError(
                f"{name}: {metadata.name} gave {key} that are not finite numbers, in {metadata.precision}: the file is "
                "damaged, or its numbers overflow this precision; export it again, with --precision fp32 if it was fp16"
            )


def _checked_sizes(image_sizes: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    try:
        pairs = [tuple(size) for size in image_sizes]
    except TypeError:
        pairs = [()]
    if not all(len(pair) in (2, 3) for pair in pairs):
        raise InputError(f"image_sizes is {short_repr(image_sizes)}, but (height, width) of each image is needed")
    return [
        (
            check_whole(pair[0], f"the height of image {index}", 1),
            check_whole(pair[1], f"the width of image {index}", 1),
        )
        for index, pair in enumerate(pairs)
    ]


def best_pairs(logits: _Floats, boxes: _Floats, count: int) -> tuple[_Floats, _Floats, NDArray[np.int32]]:
    """The ``count`` best (query, class) pairs of one image, as the original post-processing takes them.

    Args:
        logits: [Q, C].
        boxes: [Q, 4], cx, cy, w, h.
        count: how many.

    Returns:
        boxes [T, 4] (x1, y1, x2, y2), scores [T] descending, labels [T].
    """
    flat = logits.ravel()
    order = np.argsort(-flat, kind="stable")[:count]
    query, label = np.divmod(order, logits.shape[1])
    centre, half = boxes[query, :2], boxes[query, 2:] / 2
    # the exponential of a very low logit is infinite, and its score 0; so may be the corners of a very large box
    with np.errstate(over="ignore"):
        scores = np.asarray(1 / (1 + np.exp(-flat[order])), dtype=np.float32)
        corners = np.concatenate([centre - half, centre + half], axis=1)
    return corners, scores, label.astype(np.int32)
