"""Image files, whole, damaged and made to be large."""

from __future__ import annotations

import functools
import os
import struct
import zlib

import cv2
import numpy as np

from sparse_detr_deploy.images import read_image
from tests.fuzz.harness import Case, Target

MOST_PIXELS = 2 * 10**8
_FORMATS = (".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm", ".gif", ".avif", ".ras", ".pbm")


@functools.cache
def _valid() -> tuple[bytes, ...]:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    found = []
    for suffix in _FORMATS:
        try:
            encoded, data = cv2.imencode(suffix, image)
        except cv2.error:  # a format that this OpenCV does not write
            continue
        if encoded:
            found.append(data.tobytes())
    assert len(found) >= 5
    return tuple(found)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def _bomb() -> bytes:
    """A whole PNG of 30 kB with 2.1·10⁸ black pixels of one bit each."""
    width, height = 14_000, 15_000
    rows = zlib.compress(bytes((1 + width // 8) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _png(width: int, height: int, depth: int) -> bytes:
    """A valid header, and not the pixels that it speaks of."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 50_000)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _bmp(width: int, height: int, bits: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + info + b"\0" * 64


def _crafted(case: Case) -> bytes:
    mutator = case.mutator
    sides = (0, 1, 7, 255, 30_000, 65_535, 1_000_000, 2**31 - 1)
    width, height = mutator.pick(sides), mutator.pick(sides)
    kind = mutator.random.randrange(6)
    if mutator.chance(0.02):
        return _bomb()
    if kind == 0:
        return _png(width, height, mutator.pick((8, 16, 1)))
    if kind == 1:
        return _bmp(width, mutator.pick((1, -1)) * height, mutator.pick((24, 8, 32)))
    if kind == 2:
        return b"P%d\n%d %d\n255\n" % (mutator.random.randint(1, 6), width, height) + b"\0" * 30
    if kind == 3:
        return b"GIF89a" + struct.pack("<HHBBB", width % 65_536, height % 65_536, 0x80, 0, 0) + mutator.noise()
    if kind == 4:
        return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, height % 65_536, width % 65_536, 3) + mutator.noise()
    return (
        mutator.pick((b"", b"II*\0", b"MM\0*", b"RIFF\xff\xff\xff\xffWEBPVP8X", b"#?RADIANCE\n", b"\x89PNG"))
        + mutator.noise()
    )


def run_image(case: Case) -> None:
    """``read_image``."""
    path = case.folder / "image.png"
    if case.mutated:
        content = case.mutator.data(case.mutator.pick(_valid()))
    elif case.mutator.chance(0.05):
        _read(_special(case))
        return
    else:
        content = _crafted(case)
    path.write_bytes(content)
    _read(path)


def _special(case: Case) -> os.PathLike[str]:
    """A name that is no regular file."""
    fifo = case.folder / "fifo.png"
    if not fifo.exists():
        os.mkfifo(fifo)
    return case.mutator.pick(
        (fifo, case.folder, case.folder / "absent.png", case.folder / "a\0b", case.folder / ("x" * 300))
    )


def _read(path: os.PathLike[str]) -> None:
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size > 0
    assert image.shape[0] * image.shape[1] <= MOST_PIXELS, f"{image.shape} was decoded"


TARGETS = (Target("image", run_image, 22),)
