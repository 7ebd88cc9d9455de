"""From the outputs of an artefact to detections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.preprocessing import Feed, to_pixels

_Floats = NDArray[np.float32]


def finish(outputs: Feed, image_sizes: list[tuple[int, int]], metadata: Metadata) -> list[Detections]:
    """Detections in original pixels, one for each of the first images of the batch.

    Args:
        outputs: of the artefact, ``boxes``, ``scores``, ``labels`` or ``pred_logits``, ``pred_boxes``.
        image_sizes: original (h, w) of each image; a batch may hold more than these (it was filled up).
        metadata: of the artefact.
    """
    results = []
    for index, size in enumerate(image_sizes):
        if metadata.outputs == "raw":
            boxes, scores, labels = best_pairs(
                outputs["pred_logits"][index], outputs["pred_boxes"][index], metadata.num_detections
            )
        else:
            boxes, scores, labels = (outputs[name][index] for name in ("boxes", "scores", "labels"))
        results.append(Detections(to_pixels(boxes, size), scores, labels.astype(np.int32), size, metadata.class_names))
    return results


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
    with np.errstate(over="ignore"):  # the exponential of a very low logit is infinite, and its score 0
        scores = np.asarray(1 / (1 + np.exp(-flat[order])), dtype=np.float32)
    return np.concatenate([centre - half, centre + half], axis=1), scores, label.astype(np.int32)
