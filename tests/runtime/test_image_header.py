"""The size that a header says, against what OpenCV decodes."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys

import cv2
import imagesize
import numpy as np
import PIL.Image
import pytest

from sparse_detr_deploy.image_header import stored_size

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(suffix: str, image: np.ndarray = IMAGE, *options: int) -> bytes:
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def decoded(content: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None


FILES = {
    "jpeg": encoded(".jpg"),
    "progressive jpeg": encoded(".jpg", IMAGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "grey jpeg": encoded(".jpg", IMAGE[:, :, 0]),
    "png": encoded(".png"),
    "16-bit png": encoded(".png", IMAGE.astype(np.uint16) * 256),
    "bmp": encoded(".bmp"),
    "lossy webp": encoded(".webp", IMAGE, cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encoded(".webp", IMAGE, cv2.IMWRITE_WEBP_QUALITY, 101),
    "webp with alpha": encoded(".webp", np.dstack([IMAGE, IMAGE[:, :, :1]])),
    "tiff": encoded(".tiff"),
    "uncompressed tiff": encoded(".tiff", IMAGE, cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "16-bit tiff": encoded(".tiff", IMAGE.astype(np.uint16) * 256),
}


def test_a_bmp_of_os2() -> None:
    header = struct.pack("<IHHHH", 12, 60, 40, 1, 24)
    content = b"BM" + struct.pack("<IHHI", 26 + 60 * 40 * 3, 0, 0, 26) + header + bytes(60 * 40 * 3)
    assert stored_size(content) == (40, 60)
    assert cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR).shape == (40, 60, 3)
    assert stored_size(content[:20]) is None


def test_a_jpeg_of_many_scans() -> None:
    """Each scan takes as long as a picture, and a few bytes."""
    content = encoded(".jpg", IMAGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scan = content.rindex(b"\xff\xda")
    assert stored_size(content) == (40, 60)
    assert stored_size(content[:-2] + content[scan:-2] * 100 + content[-2:]) is None


@pytest.mark.parametrize("name", FILES)
def test_sizes(name: str) -> None:
    assert stored_size(FILES[name]) == (40, 60)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {"big_tiff": True}),
        ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {"save_all": True}),
        ("PNG", {"save_all": True}),
        ("WEBP", {"save_all": True}),
        ("BMP", {}),
    ],
)
def test_sizes_of_files_by_other_programs(kind: str, options: dict[str, object]) -> None:
    first, second = PIL.Image.fromarray(IMAGE), PIL.Image.fromarray(255 - IMAGE)
    if "save_all" in options:
        options = {**options, "append_images": [second]}
    file = io.BytesIO()
    first.save(file, kind, **options)
    assert stored_size(file.getvalue()) == (40, 60)


def test_a_jpeg_with_a_thumbnail() -> None:
    """The frame of the thumbnail in the EXIF comes first in the file."""
    small = encoded(".jpg", IMAGE[:8, :8])
    assert len(small) < 60_000
    segment = b"\xff\xe1" + struct.pack(">H", len(small) + 8) + b"Exif\0\0" + small
    assert stored_size(FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]) == (40, 60)


@pytest.mark.parametrize("suffix", [".gif", ".ppm", ".pam", ".ras", ".hdr", ".avif"])
def test_other_formats_are_none(suffix: str) -> None:
    """OpenCV would decode them, of whatever size."""
    try:
        content = encoded(suffix, IMAGE.astype(np.float32) / 255 if suffix == ".hdr" else IMAGE)
    except cv2.error:
        pytest.skip(f"this OpenCV writes no {suffix}")
    assert stored_size(content) is None


@pytest.mark.parametrize(
    "content", [b"", b"BM", b"\xff\xd8\xff", b"II*\0", b"II+\0", b"RIFF1234WEBP", b"<svg", b"P6 9 9"]
)
def test_headers_that_end_early(content: bytes) -> None:
    for tail in (b"", b"\0" * 7, b"\xff" * 40):
        assert stored_size(content + tail) is None or decoded(content + tail) is None


def jpeg_that_lies() -> bytes:
    """Decoders step over FF 00 and see a frame of 60×40; who takes it for a segment sees one of 8×8 behind it."""
    body = FILES["jpeg"][2:]
    start = FILES["jpeg"].index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", FILES["jpeg"], start + 2)
    frame = bytearray(FILES["jpeg"][start : start + 2 + length])
    frame[5:9] = struct.pack(">HH", 8, 8)
    return b"\xff\xd8\xff\x00" + struct.pack(">H", len(body) + 2) + body + bytes(frame)


def tiff_that_lies() -> bytes:
    """Two widths, 60 and 3, of which decoders take the first."""
    entries = [(256, 60), (256, 3), (257, 40), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 40), (279, 2400)]
    folder = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries
    )
    return b"II*\0" + struct.pack("<I", 8 + 2400) + bytes(2400) + folder + bytes(4)


@pytest.mark.parametrize("content", [jpeg_that_lies(), tiff_that_lies()])
def test_a_header_that_is_read_in_two_ways(content: bytes) -> None:
    image = decoded(content)
    assert image is not None
    assert image.shape == (40, 60, 3)
    assert np.prod(imagesize.get(io.BytesIO(content))) < 40 * 60  # why it must be refused
    assert stored_size(content) is None


ENDLESS = {
    "jpeg of small segments": "b'\\xff\\xd8\\xff' + b'\\xe0\\0\\2\\xff' * 10**7",
    "jpeg of fill bytes": "b'\\xff\\xd8' + b'\\xff' * 10**7",
    "jpeg of anything": "b'\\xff\\xd8\\xff\\xe0\\0\\2' + b'\\1' * 10**7",
    "tiff of entries": "b'II+\\0\\x08\\0\\0\\0' + (16).to_bytes(8, 'little') + (2**62).to_bytes(8, 'little') + bytes(10**7)",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_header_without_an_end_is_left(name: str) -> None:
    code = f"from sparse_detr_deploy.image_header import stored_size; print(stored_size({ENDLESS[name]}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "None", done.stderr


def test_no_file_decodes_to_more_than_its_header_says() -> None:
    """Valid files, damaged where their headers are."""
    chance, compared = random.Random(0), 0
    for _ in range(1500):
        content = bytearray(chance.choice(list(FILES.values())))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(min(len(content), chance.choice([40, 200])))
            action = chance.randrange(4)
            if action == 0:
                content[place] = chance.choice([0, 1, 2, 0x7F, 0x80, 0xC0, 0xFF, chance.randrange(256)])
            elif action == 1:
                content[place:place] = chance.choice(
                    [b"\xff\0", b"\xff", b"\0\0\0\0", b"\xff\xc0\0\x0b\x08\0\x09\0\x09\1\1"]
                )
            elif action == 2:
                del content[place : place + chance.randint(1, 12)]
            else:
                source = chance.randrange(min(len(content), 200))
                content[place : place + 12] = content[source : source + 12]
        said = stored_size(bytes(content))
        if said is None or said[0] * said[1] > 50_000:
            continue
        image = decoded(bytes(content))
        if image is not None:
            compared += 1
            assert image.shape[0] * image.shape[1] <= said[0] * said[1], bytes(content)
    assert compared > 200
