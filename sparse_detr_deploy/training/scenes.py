"""Scenes: several handwritten digits of very different size on a cluttered background with distractors.

A scene follows from (seed, split, index) alone, so any of them can be rendered again, in any order.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.opencv import cv2
from sparse_detr_deploy.training.digits import SPLITS, Digits, load_split

SMALLEST, LARGEST = 12, 96
_MOST_PIXELS, _MOST_THINGS = 4096, 1000  # of a side; of one kind on a scene
_INK = 0.5  # alpha from which a pixel counts as part of the digit's box
_TRIES = 12
_MAX_COVERED = 0.1  # share of the smaller of two boxes that the other may cover
_MIN_CONTRAST = 70.0

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class SceneSpec:
    """What scenes are like: pixels, and (least, most) of what is on them."""

    height: int = 160
    width: int = 160
    objects: tuple[int, int] = (2, 7)
    distractors: tuple[int, int] = (0, 3)
    strokes: tuple[int, int] = (2, 8)
    sizes: tuple[int, int] = (SMALLEST, LARGEST)
    rotation: float = 25.0
    empty_share: float = 0.03

    def __post_init__(self) -> None:
        if not (1 <= self.height <= _MOST_PIXELS and 1 <= self.width <= _MOST_PIXELS):
            raise InputError(f"scenes of {self.height}×{self.width} pixels: each side is 1 to {_MOST_PIXELS}")
        for name in ("objects", "distractors", "strokes", "sizes"):
            least, most = getattr(self, name)
            if not 0 <= least <= most:
                raise InputError(f"{name} is {least} to {most}, but 0 ≤ least ≤ most is needed")
            if name != "sizes" and most > _MOST_THINGS:
                raise InputError(f"{name} is {least} to {most}, but there are at most {_MOST_THINGS} on a scene")
        if self.sizes[0] < 8 or self.sizes[1] > min(self.height, self.width):
            raise InputError(f"digits of {self.sizes} pixels are below 8 or do not fit {self.height}×{self.width}")
        if not 0 <= self.rotation <= 30:
            raise InputError(f"rotation is {self.rotation}°, but beyond 30° digits stop being readable (6 and 9)")
        if not 0 <= self.empty_share < 1:
            raise InputError(f"empty_share is {self.empty_share}, but a share in 0..1 is needed")


@dataclasses.dataclass(frozen=True)
class Scene:
    """``image`` uint8 [H, W, 3] RGB, ``boxes`` float32 [n, 4] (x1, y1, x2, y2 in pixels), ``labels`` int64 [n]."""

    image: _Bytes
    boxes: _Floats
    labels: NDArray[np.int64]


def render_scene(spec: SceneSpec, split: str, seed: int, index: int) -> Scene:
    """Scene ``index`` of ``seed`` and ``split``."""
    digits = load_split(split)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = _background(spec, rng)
    for _ in range(rng.integers(*spec.strokes, endpoint=True)):
        _draw_stroke(canvas, rng)
    count = 0 if rng.random() < spec.empty_share else int(rng.integers(*spec.objects, endpoint=True))
    distractors = int(rng.integers(*spec.distractors, endpoint=True))
    kinds = [True] * count + [False] * distractors
    smallest, largest = np.log(spec.sizes)
    sizes = np.exp(rng.uniform(float(smallest), float(largest), size=len(kinds)))
    boxes: list[_Floats] = []
    kept: list[tuple[_Floats, int]] = []
    for position in np.argsort(-sizes):  # the large ones first, while there is room
        placed = _place(canvas, digits, float(sizes[position]), kinds[position], boxes, spec, rng)
        if placed is not None:
            boxes.append(placed[0])
            if kinds[position]:
                kept.append(placed)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(1, 8))
    return Scene(
        np.clip(canvas, 0, 255).astype(np.uint8),
        np.array([box for box, _ in kept], dtype=np.float32).reshape(-1, 4),
        np.array([label for _, label in kept], dtype=np.int64),
    )


def _background(spec: SceneSpec, rng: np.random.Generator) -> _Floats:
    """Smooth patches of colour at two scales, rather dark."""
    canvas = np.full((spec.height, spec.width, 3), rng.uniform(20, 110, 3), dtype=np.float32)
    for cells, spread in ((4, 24.0), (14, 12.0)):
        coarse = rng.normal(0, spread, (cells, cells, 3)).astype(np.float32)
        canvas += cv2.resize(coarse, (spec.width, spec.height), interpolation=cv2.INTER_CUBIC)
    return canvas


def _draw_stroke(canvas: _Floats, rng: np.random.Generator) -> None:
    """A line, an ellipse or a rectangle anywhere."""
    height, width = canvas.shape[:2]
    color = tuple(float(value) for value in rng.uniform(0, 255, 3))
    thickness = int(rng.integers(1, 5))
    x1, x2 = (int(value) for value in rng.integers(0, width, 2))
    y1, y2 = (int(value) for value in rng.integers(0, height, 2))
    kind = rng.integers(3)
    if kind == 0:
        cv2.line(canvas, (x1, y1), (x2, y2), color, thickness)
    elif kind == 1:
        axes = (int(rng.integers(4, 40)), int(rng.integers(4, 40)))
        cv2.ellipse(
            canvas, (x1, y1), axes, float(rng.uniform(0, 180)), 0, float(rng.uniform(90, 360)), color, thickness
        )
    else:
        size = rng.integers(6, 50, 2)
        cv2.rectangle(canvas, (x1, y1), (x1 + int(size[0]), y1 + int(size[1])), color, thickness)


def _place(
    canvas: _Floats,
    digits: Digits,
    size: float,
    is_object: bool,
    boxes: list[_Floats],
    spec: SceneSpec,
    rng: np.random.Generator,
) -> tuple[_Floats, int] | None:
    """Draw one digit (or a distractor) of ``size`` pixels; its box and label, or ``None`` where there is no room."""
    source = int(rng.integers(len(digits.labels)))
    ink = digits.ink[source] if is_object else _scrambled(digits.ink[source], rng)
    alpha = _warped(ink, size, rng.uniform(-spec.rotation, spec.rotation), rng.uniform(0.85, 1.15))
    rows, columns = np.flatnonzero((alpha >= _INK).any(1)), np.flatnonzero((alpha >= _INK).any(0))
    if not len(rows):
        return None
    alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = alpha.shape
    if height > spec.height or width > spec.width:
        return None
    for _ in range(_TRIES):
        top, left = int(rng.integers(spec.height - height + 1)), int(rng.integers(spec.width - width + 1))
        box = np.array([left, top, left + width, top + height], dtype=np.float32)
        if _is_free(box, boxes):
            break
    else:
        return None
    area = canvas[top : top + height, left : left + width]
    color = _readable_color(area.mean((0, 1)), rng)
    area += alpha[:, :, None] * (color - area)
    return box, int(digits.labels[source])


def _scrambled(ink: _Floats, rng: np.random.Generator) -> _Floats:
    """Strokes of a digit that are no digit: its 2×2 tiles permuted, each turned."""
    tiles = [ink[row : row + 4, column : column + 4] for row in (0, 4) for column in (0, 4)]
    order = np.array([(1, 3, 0, 2), (2, 0, 3, 1), (3, 2, 1, 0)])[rng.integers(3)]
    turned = [np.rot90(tiles[tile], int(rng.integers(4))) for tile in order]
    return np.block([[turned[0], turned[1]], [turned[2], turned[3]]])


def _warped(ink: _Floats, size: float, degrees: float, aspect: float) -> _Floats:
    """Alpha of the digit, turned, its longer side about ``size`` pixels; a margin is left around it."""
    y, x = np.nonzero(ink > 0.4 * ink.max())
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([aspect, 1.0])
    corners = np.stack(
        [np.concatenate([x - 0.5, x + 0.5, x - 0.5, x + 0.5]), np.concatenate([y - 0.5, y - 0.5, y + 0.5, y + 0.5])]
    )
    turned = matrix @ corners
    low, high = turned.min(1), turned.max(1)
    scale = size / float((high - low).max())
    side = int(np.ceil(size)) + 8
    shift = side / 2 - scale * (low + high) / 2 - 0.5
    affine = np.concatenate([matrix * scale, shift[:, None]], axis=1)
    warped = cv2.warpAffine(ink / ink.max(), affine, (side, side), flags=cv2.INTER_CUBIC)
    alpha: _Floats = np.clip((warped - 0.2) * 2.2, 0, 1).astype(np.float32)
    return alpha


def _is_free(box: _Floats, boxes: list[_Floats]) -> bool:
    for other in boxes:
        overlap = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
        if (overlap > 0).all():
            smaller = min(np.prod(box[2:] - box[:2]), np.prod(other[2:] - other[:2]))
            if np.prod(overlap) > _MAX_COVERED * smaller:
                return False
    return True


def _readable_color(background: _Floats, rng: np.random.Generator) -> _Floats:
    """A light colour, as chalk on a board: ``_MIN_CONTRAST`` lighter than the background where that is possible."""
    brightness = min(float(background.mean()), 255 - _MIN_CONTRAST - 30)
    color = rng.uniform(90, 255, 3)
    while color.mean() - brightness < _MIN_CONTRAST:
        color = rng.uniform(90, 255, 3)
    return color.astype(np.float32)
