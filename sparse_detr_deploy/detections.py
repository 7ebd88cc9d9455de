"""What a detector finds in one image."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.arguments import check_score, check_whole
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.images import Image, check_image
from sparse_detr_deploy.opencv import cv2


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one image, best first.

    Attributes:
        boxes: float32 [n, 4], x1, y1, x2, y2 in pixels of the original image, inside it.
        scores: float32 [n] in 0..1, descending.
        labels: int32 [n], indices of the class head (COCO ``category_id`` for the published models).
        image_size: (height, width) of the original image.
        class_names: names by label, where the artefact has them.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    image_size: tuple[int, int]
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> Detections:
        """A selection by mask, slice or indices."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return dataclasses.replace(
            self, boxes=self.boxes[chosen], scores=self.scores[chosen], labels=self.labels[chosen]
        )

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names[:3], self.scores[:3], strict=True))
        return f"Detections({len(self)} in {self.image_size[1]}×{self.image_size[0]}{': ' + best if best else ''})"

    @property
    def names(self) -> list[str]:
        """Class name of each detection; the label's number where it has none."""
        known = self.class_names or ()
        return [known[label] if 0 <= label < len(known) else str(label) for label in self.labels.tolist()]

    def above(self, score: float) -> Detections:
        """Those of at least ``score`` (0..1)."""
        return self[self.scores >= check_score(score, "score")]

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """COCO results: ``image_id``, ``category_id`` (the label), ``bbox`` (x, y, w, h), ``score``. For JSON as they are."""
        if not isinstance(image_id, str):
            image_id = check_whole(image_id, "image_id")
        corners = self.boxes.astype(float)
        sizes = corners[:, 2:] - corners[:, :2]
        return [
            {"image_id": image_id, "category_id": label, "bbox": [*corner[:2], *size], "score": score}
            for corner, size, label, score in zip(
                corners.tolist(), sizes.tolist(), self.labels.tolist(), self.scores.astype(float).tolist(), strict=True
            )
        ]

    def to_supervision(self) -> Any:
        """``supervision.Detections``; needs the package ``supervision``."""
        try:
            import supervision
        except ImportError:
            raise BackendError("the package supervision is not installed: pip install supervision") from None
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels.astype(int),
            data={"class_name": np.array(self.names)},
        )

    def draw(self, image: Image) -> Image:
        """A copy of ``image`` (uint8 BGR [H, W, 3], the original size) with boxes, names and scores."""
        canvas = check_image(image).copy()
        if canvas.shape[:2] != self.image_size:
            raise InputError(
                f"the image is {canvas.shape[1]}×{canvas.shape[0]}, but these detections are of one of {self.image_size[1]}×{self.image_size[0]}"
            )
        scale = max(canvas.shape[:2]) / 1000
        line, font = max(1, round(2 * scale)), max(0.35, 0.6 * scale)
        # worst first, so that the best lie on top
        for box, label, name, score in list(zip(self.boxes, self.labels, self.names, self.scores, strict=True))[::-1]:
            color = _color(int(label))
            x1, y1, x2, y2 = (round(float(value)) for value in box)
            cv2.rectangle(canvas, (x1, y1), (x2, y2), color, line)
            text = f"{name} {score:.2f}"
            (width, height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font, 1)
            top = max(y1, height + baseline)
            cv2.rectangle(canvas, (x1, top - height - baseline), (x1 + width, top), color, cv2.FILLED)
            ink = (0, 0, 0) if sum(color) > 380 else (255, 255, 255)
            cv2.putText(canvas, text, (x1, top - baseline // 2), cv2.FONT_HERSHEY_SIMPLEX, font, ink, 1, cv2.LINE_AA)
        return canvas


def _color(label: int) -> tuple[int, int, int]:
    """A BGR colour for each class; the golden angle keeps neighbouring labels apart."""
    hue = int(label * 137.508) % 180
    pixel = cv2.cvtColor(np.array([[[hue, 200, 235]]], dtype=np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])
