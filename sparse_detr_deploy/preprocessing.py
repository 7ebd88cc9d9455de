"""From images to the inputs of an artefact, and back from its boxes to the original pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.images import Image, check_image
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.opencv import cv2
from sparse_detr_deploy.short_repr import short_repr

Feed = dict[str, NDArray[Any]]
COLORS = ("bgr", "rgb")


def prepare(images: Sequence[Image], metadata: Metadata, color: str = "bgr", keep_ratio: float | None = None) -> Feed:
    """The inputs of one batch.

    An artefact without padding gets every image resized to its canvas; one with padding gets it scaled to fit, the
    aspect kept, at the top left. An axis that shrinks is averaged over its pixels (against aliasing, as the original's
    antialiased resize does), one that grows is bilinear.

    Args:
        images: B uint8 arrays [H, W, 3].
        metadata: of the artefact.
        color: order of the channels, ``bgr`` or ``rgb``.
        keep_ratio: for artefacts with dynamic ρ.

    Returns:
        ``images`` [B, 3, H, W] float32 normalised (or uint8), and ``image_sizes`` [B, 2] and ``num_keep`` int64
        where the artefact has these inputs.

    Raises:
        InputError: an image, the colour or the ratio is not usable.
    """
    check_color(color)
    check_images(images)
    canvas = (metadata.height, metadata.width)
    metadata.num_keep(keep_ratio)  # refuses a ratio that the artefact cannot run at
    sizes = [fitted_size(image.shape[:2], metadata) for image in images]
    as_bytes = metadata.input_dtype == "uint8"
    batch = np.zeros((len(images), 3, *canvas), dtype=np.uint8 if as_bytes else np.float32)
    for target, image, (height, width) in zip(batch, images, sizes, strict=True):
        fitted = resized(image, height, width)
        for channel in range(3):
            plane = fitted[:, :, channel if color == "rgb" else 2 - channel]
            area = target[channel, :height, :width]
            if as_bytes:
                area[...] = plane
            else:
                scale = 1 / (255 * metadata.std[channel])
                np.multiply(plane, np.float32(scale), out=area)
                area -= np.float32(metadata.mean[channel] / metadata.std[channel])
    feed: Feed = {"images": batch}
    if metadata.padded:
        feed["image_sizes"] = np.array(sizes, dtype=np.int64)
    if metadata.dynamic_rho:
        counts = [metadata.num_keep(keep_ratio, size) for size in (sizes if metadata.padded else sizes[:1])]
        feed["num_keep"] = np.array(counts, dtype=np.int64)
    return feed


def check_color(color: object) -> None:
    """Raise :class:`InputError` unless ``color`` is one of :data:`COLORS`."""
    if not isinstance(color, str) or color not in COLORS:
        raise InputError(f"color {short_repr(color)} is not one of {', '.join(COLORS)}")


def check_images(images: Sequence[Image]) -> None:
    """Raise :class:`InputError` unless ``images`` are the arrays of one batch."""
    batch = isinstance(images, np.ndarray) and images.ndim == 4
    if not batch and (not isinstance(images, Sequence) or isinstance(images, (str, bytes, bytearray, memoryview))):
        raise InputError(f"images is a {type(images).__name__}: give the list of the arrays of one batch")
    if len(images) == 0:
        raise InputError("images is empty: a batch holds at least one")
    for index, image in enumerate(images):
        check_image(image, f"image {index}")


def fitted_size(size: tuple[int, ...], metadata: Metadata) -> tuple[int, int]:
    """(h, w) that an image of ``size`` (h, w) takes on the canvas."""
    if not metadata.padded:
        return metadata.height, metadata.width
    scale = min(metadata.height / size[0], metadata.width / size[1])
    return (
        min(metadata.height, max(1, round(size[0] * scale))),
        min(metadata.width, max(1, round(size[1] * scale))),
    )


def resized(image: Image, height: int, width: int) -> Image:
    """``image`` as it lies on the canvas, (height, width) large."""
    if image.shape[:2] == (height, width):
        return image
    # OpenCV averages only where no axis grows, so the axes that shrink go first
    smaller = (min(image.shape[1], width), min(image.shape[0], height))
    if smaller != image.shape[1::-1]:
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if smaller != (width, height):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return image


def to_pixels(boxes: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes [n, 4] (x1, y1, x2, y2) in 0..1 of the image to pixels of an image of ``image_size`` (h, w), inside it."""
    height, width = image_size
    limits = np.array([width, height, width, height], dtype=np.float32)
    with np.errstate(over="ignore"):  # what is beyond every float lies outside too
        return np.asarray(np.clip(boxes * limits, 0, limits), dtype=np.float32)
