"""The images that contenders are timed on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.images import Image, list_images, readable_images
from sparse_detr_deploy.synthetic_image import synthetic_image

MOST = 16


@dataclasses.dataclass(frozen=True)
class Inputs:
    """uint8 BGR images [H, W, 3] and where they are from."""

    images: list[Image]
    source: str


def read_inputs(paths: list[Path], folder: Path, on_error: Callable[[str], None]) -> Inputs:
    """The first readable images of ``paths``, at most 16; unreadable ones are told to ``on_error`` and left out.

    Raises:
        InputError: none can be read.
    """
    images = [image for _, image in itertools.islice(readable_images(paths, on_error), MOST)]
    if not images:
        raise InputError(f"{folder} holds no readable image")
    return Inputs(images, f"{len(images)} images of {folder.name}")


def folder_inputs(folder: Path, on_error: Callable[[str], None]) -> Inputs:
    """As :func:`read_inputs`, of the image files of a folder."""
    return read_inputs(list_images(folder), folder, on_error)


def synthetic_inputs(height: int, width: int) -> Inputs:
    """Four synthetic images of ``height`` × ``width`` pixels."""
    return Inputs(
        [synthetic_image(seed, height, width) for seed in range(4)], f"4 synthetic images of {height}×{width}"
    )
