"""Images: reading them, and saying what is wrong with one before any heavy work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.arguments import check_whole
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.image_header import FORMATS, stored_size
from sparse_detr_deploy.opencv import cv2
from sparse_detr_deploy.regular_files import check_regular, read_bytes
from sparse_detr_deploy.short_repr import short_repr

Image = NDArray[np.uint8]
ImageLike = Image | str | os.PathLike[str]
MAX_PIXELS = 200_000_000
_MOST_BYTES = 2**30  # of an image file; MAX_PIXELS of 16 bits, uncompressed, are about as many
_LONGEST_PATH = 1000
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image file (JPEG, PNG, BMP, WebP or TIFF) as uint8 BGR [H, W, 3], turned as its EXIF says.

    Args:
        path: of the file; its content counts, not its suffix.
        max_pixels: how many pixels the file may have. One of a few kilobytes can say that it has 10⁹ of them; it is
            refused by its header, before it is decoded.

    Raises:
        InputError: the file is missing, empty, no regular file, no image, or has too many pixels; the message names it.
    """
    max_pixels = check_whole(max_pixels, "max_pixels", 1)
    path = _as_path(path)
    try:
        content = read_bytes(path, _MOST_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not content:
        raise InputError(f"{path} is empty")
    size = stored_size(content)
    if size is not None:
        _check_size(path, size, max_pixels)
    try:
        # what has no header that we can read is not decoded: it may be of any size
        image = None if size is None else cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # more pixels than OpenCV takes
        raise InputError(f"{path} cannot be decoded ({str(error).strip()})") from None
    if image is None:
        raise InputError(f"{path} is corrupt or not an image that is read here ({FORMATS})")
    _check_size(path, image.shape[:2], max_pixels)  # whatever the header said
    return np.asarray(image, dtype=np.uint8)


def _as_path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path)
    except TypeError:  # such as bytes
        raise InputError(f"{short_repr(path)} is no path: give it as text or as a pathlib.Path") from None


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{_shown(path)} cannot be read ({error.strerror or error})")


def _check_size(path: Path, size: tuple[int, ...], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise InputError(
            f"{path} has {size[1]:,} × {size[0]:,} pixels, more than the {max_pixels:,} that are read: make it smaller, "
            "or raise max_pixels if you trust it"
        )


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
    if isinstance(image, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array: say with .filled(value) what stands where it is masked")
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


def load_image(image: ImageLike, name: str = "the image", max_pixels: int = MAX_PIXELS) -> Image:
    """A path is read (BGR), an array checked."""
    return read_image(image, max_pixels) if isinstance(image, (str, os.PathLike)) else check_image(image, name)


def check_image_like(image: object, name: str = "the image") -> None:
    """Raise :class:`InputError` where :func:`load_image` will, as far as can be seen without opening a file."""
    if not isinstance(image, (str, os.PathLike)):
        check_image(image, name)
        return
    path = _as_path(image)
    try:
        check_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from None


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
