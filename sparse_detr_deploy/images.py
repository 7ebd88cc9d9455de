"""Images: reading them, and saying what is wrong with one before any heavy work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.errors import InputError

Image = NDArray[np.uint8]
ImageLike = Image | str | os.PathLike[str]
_LONGEST_PATH = 1000
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read an image file as uint8 BGR [H, W, 3], turned as its EXIF says.

    Raises:
        InputError: the file is missing, empty, a folder or no image; the message names it.
    """
    path = Path(path)
    if os.path.isdir(path):  # Path.is_dir raises where it cannot look
        raise InputError(f"{path} is a folder, not an image file")
    try:
        data = np.fromfile(path, dtype=np.uint8)  # imread does not open every path that the system does
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{_shown(path)} cannot be read ({why})") from None
    if data.size == 0:
        raise InputError(f"{path} is empty")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:  # more pixels than OpenCV takes
        raise InputError(f"{path} cannot be decoded ({str(error).strip()})") from None
    if image is None:
        raise InputError(f"{path} is corrupt or not an image that OpenCV reads")
    return np.asarray(image, dtype=np.uint8)


def _shown(path: Path) -> str:
    """The path for a message; what is too long for one is rather the content of an image as text."""
    text = str(path)
    if len(text) <= _LONGEST_PATH:
        return text
    return f"{text[:40]}… ({len(text)} characters, where the path of an image file or an array is needed)"


def check_image(image: object, name: str = "the image") -> Image:
    """Return ``image`` if it is a uint8 [H, W, 3] array, else raise :class:`InputError` with the mend."""
    if not isinstance(image, np.ndarray):
        raise InputError(f"{name} is a {type(image).__name__}: give a uint8 array [H, W, 3] in BGR order, or a path")
    described = f"{name} is {image.dtype} {list(image.shape)}"
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise InputError(f"{described}, a grey image: convert it with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)")
    if image.ndim == 3 and image.shape[2] == 4:
        raise InputError(f"{described}, with an alpha channel: convert it with cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{described}, but [H, W, 3] is needed (one image; a batch is a list of images)")
    if image.dtype != np.uint8:
        raise InputError(f"{described}, but uint8 in 0..255 is needed: scale it and use .astype(numpy.uint8)")
    if 0 in image.shape:
        raise InputError(f"{described}: it has no pixels")
    return image


def load_image(image: ImageLike, name: str = "the image") -> Image:
    """A path is read (BGR), an array checked."""
    return read_image(image) if isinstance(image, (str, os.PathLike)) else check_image(image, name)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files of a folder by their suffix, sorted by name. :class:`InputError` if there are none."""
    folder = Path(folder)
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the path
        raise InputError(f"{folder} is not a folder of images") from None
    except OSError as error:
        raise InputError(f"{_shown(folder)} cannot be listed ({error.strerror or error})") from None
    if not found:
        raise InputError(f"{folder} holds no image ({', '.join(SUFFIXES)})")
    return found


def readable_images(paths: list[Path], on_error: Callable[[str], None]) -> Iterator[tuple[Path, Image]]:
    """Read one image after another; one that cannot be read is told to ``on_error`` and left out."""
    for path in paths:
        try:
            image = read_image(path)
        except InputError as error:
            on_error(str(error))
            continue
        yield path, image
