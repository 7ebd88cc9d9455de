"""Reading images, and saying what is wrong with one."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sparse_detr_deploy import images
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.images import (
    check_image,
    check_image_like,
    list_images,
    load_image,
    read_image,
    readable_images,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def encoded(suffix: str, image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_reading(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"größe ρ{suffix}"
    path.write_bytes(encoded(suffix))
    np.testing.assert_array_equal(read_image(path), IMAGE)
    np.testing.assert_array_equal(load_image(str(path)), IMAGE)


def test_grey_alpha_and_16_bit_files_become_three_channels(tmp_path: Path) -> None:
    grey, alpha = IMAGE[:, :, 0], np.dstack([IMAGE, IMAGE[:, :, :1]])
    for image, expected in ((grey, np.dstack([grey] * 3)), (alpha, IMAGE), (IMAGE.astype(np.uint16) * 257, IMAGE)):
        (tmp_path / "x.png").write_bytes(encoded(".png", image))
        read = read_image(tmp_path / "x.png")
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, expected)


def quadrants() -> np.ndarray:
    """An image that is another one however it is turned or mirrored: 48 × 80, each quarter of one colour."""
    colours = np.array([[[20, 40, 220], [30, 200, 60]], [[230, 70, 40], [240, 240, 240]]], dtype=np.uint8)
    return colours.repeat(24, axis=0).repeat(40, axis=1)


def turned_jpeg(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG file whose EXIF says ``orientation``."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


# the stored image for an upright one, as EXIF defines the orientations: where its first row and column are seen
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.transpose(1, 0, 2),  # left, top
    6: lambda upright: upright[:, ::-1].transpose(1, 0, 2),  # right, top
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda upright: upright[::-1].transpose(1, 0, 2),  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
def test_files_are_turned_as_their_exif_says(orientation: int, tmp_path: Path) -> None:
    stored = np.ascontiguousarray(STORED[orientation](quadrants()))
    (tmp_path / "x.jpg").write_bytes(turned_jpeg(stored, orientation))
    read = read_image(tmp_path / "x.jpg").astype(int)
    assert read.shape == (48, 80, 3)
    middles = np.ix_([12, 36], [20, 60])
    assert np.abs(read[middles] - quadrants()[middles]).max() < 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no image at all", "corrupt or not an image"),
        (encoded(".jpg", cv2.resize(IMAGE, (160, 120)))[:-500], "corrupt or not an image"),
        (encoded(".png")[:-100], "corrupt or not an image"),
        (encoded(".webp")[:40], "corrupt or not an image"),
        (b"P6 2 2 255 " + bytes(12), r"not an image that is read here \(JPEG, PNG, BMP, WebP or TIFF\)"),
        (png_header(60_000, 60_000), "has 60,000 × 60,000 pixels, more than the 200,000,000 that are read.*max_pixels"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"broken.jpg.*{message}"):
        read_image(path)


def test_a_small_file_of_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30,000 × 30,000 grey pixels are 110 kB as PNG, and 2.7 GB in memory."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(30_001)) for _ in range(300)) + packer.flush()
    path = tmp_path / "large.png"
    path.write_bytes(png_header(30_000, 30_000).replace(zlib.compress(b"0"), rows))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"large\.png has 30,000 × 30,000 pixels"):
        read_image(path)
    told: list[str] = []
    assert list(readable_images([path], told.append)) == []
    assert "large.png" in told[0]


def test_the_limit_of_pixels_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(".png"))
    assert read_image(path, max_pixels=192).shape == (12, 16, 3)
    assert load_image(path, max_pixels=np.int64(192)).shape == (12, 16, 3)
    with pytest.raises(InputError, match="16 × 12 pixels, more than the 191"):
        load_image(path, max_pixels=191)
    path.write_bytes(png_header(60_000, 60_000))
    with pytest.raises(InputError, match="cannot be decoded"):  # OpenCV's own limit
        read_image(path, max_pixels=10**10)
    for odd in (0, -1, 1.5, "9", None, True, np.array([9])):
        with pytest.raises(InputError, match="max_pixels is .*a whole number of at least 1"):
            read_image(path, max_pixels=odd)  # type: ignore[arg-type]


def test_a_file_of_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_MOST_BYTES", 100)
    (tmp_path / "x.bmp").write_bytes(encoded(".bmp"))
    with pytest.raises(InputError, match=r"x\.bmp cannot be read \(it is larger than 100 bytes\)"):
        read_image(tmp_path / "x.bmp")


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    """A FIFO without a writer blocks whoever opens it, and a device has no end."""
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").write_bytes(encoded(".png"))
    code = f"""
from sparse_detr_deploy.images import list_images, readable_images
print([path.name for path, _ in readable_images(list_images({str(tmp_path)!r}), print)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for line, (name, what) in zip(
        lines, (("a.png", "FIFO"), ("b.jpg", "folder"), ("c.png", "device"), ("d.png", "")), strict=True
    ):
        assert name in line
        assert what in line


def test_paths_that_are_no_paths() -> None:
    class OfBytes:
        def __fspath__(self) -> bytes:
            return b"x.png"

    for check in (read_image, load_image, check_image_like):
        with pytest.raises(InputError, match="is no path"):
            check(OfBytes())  # type: ignore[operator]


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.jpg cannot be read \(No such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_image("null\0.jpg")


def test_paths_that_the_system_does_not_look_up(tmp_path: Path) -> None:
    long = tmp_path / f"{'x' * 300}.jpg"
    with pytest.raises(InputError, match=r"x\.jpg cannot be read \(File name too long\)"):
        read_image(long)
    text = base64.b64encode(bytes(300_000)).decode()
    with pytest.raises(
        InputError, match=r"AAA… \(400000 characters, where the path .* or an array is needed\)"
    ) as caught:
        load_image(text)
    assert len(str(caught.value)) < 300
    for length, shown in ((1000, "A" * 1000 + r" cannot be read"), (1001, r"A{40}… \(1001 characters")):
        with pytest.raises(InputError, match=f"^{shown}"):
            load_image("A" * length)
    with pytest.raises(InputError, match="cannot be listed"):
        list_images(long)
    (tmp_path / "a.png").write_bytes(encoded(".png"))
    told: list[str] = []
    read = [path.name for path, _ in readable_images([long, tmp_path / "a.png"], told.append)]
    assert (read, len(told)) == (["a.png"], 1)


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    inside = tmp_path / "closed" / "x.png"
    inside.write_bytes(encoded(".png"))
    if os.geteuid() == 0:  # whom permissions do not stop
        stat, listdir = os.stat, os.listdir

        def closed(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **options: Any) -> Any:
                if isinstance(path, (str, os.PathLike)) and "closed" in str(path):
                    raise PermissionError(13, "Permission denied", str(path))
                return function(path, *args, **options)

            return call

        monkeypatch.setattr(os, "stat", closed(stat))
        monkeypatch.setattr(os, "listdir", closed(listdir))
    else:
        (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(InputError, match=r"x\.png cannot be read \(Permission denied\)"):
            read_image(inside)
        with pytest.raises(InputError, match=r"closed cannot be listed \(Permission denied\)"):
            list_images(tmp_path / "closed")
    finally:
        monkeypatch.undo()
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE.astype(np.float32), "float32.*uint8 in 0..255 is needed"),
        (IMAGE.astype(np.int64), "int64.*uint8"),
        (IMAGE > 3, "bool.*uint8"),
        (IMAGE[:, :, 0], "a grey image.*COLOR_GRAY2BGR"),
        (IMAGE[:, :, :1], "a grey image.*COLOR_GRAY2BGR"),
        (np.dstack([IMAGE, IMAGE[:, :, :1]]), "alpha channel.*COLOR_BGRA2BGR"),
        (IMAGE[None], r"\[1, 12, 16, 3\].*a batch is a list"),
        (IMAGE.transpose(2, 0, 1), r"\[3, 12, 16\], but \[H, W, 3\]"),
        (IMAGE[:0], "no pixels"),
        (IMAGE[:, :0], "no pixels"),
        (np.array(3, dtype=np.uint8), r"\[H, W, 3\] is needed"),
        (np.array([], dtype=np.uint8), r"\[H, W, 3\] is needed"),
        (np.array([None], dtype=object), r"object \[1\]"),
        (np.ma.masked_array(IMAGE, IMAGE > 100), r"a masked array: .*\.filled"),
        (np.array([[[None] * 3]]), r"object \[1, 1, 3\], but uint8"),
        (np.zeros((4, 4, 3), dtype=[("x", "u1")]), "but uint8"),
        (None, "is a NoneType: give a uint8 array"),
        ([[1, 2]], "is a list"),
        (b"bytes", "is a bytes"),
    ],
)
def test_arrays_that_are_no_images(image: object, message: str) -> None:
    with pytest.raises(InputError, match=f"frame 7.*{message}"):
        check_image(image, "frame 7")


def test_a_folder_with_broken_files(tmp_path: Path) -> None:
    for name, content in (("a.png", encoded(".png")), ("b.JPG", b""), ("c.png", b"text"), ("d.bmp", encoded(".bmp"))):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "e.png").mkdir()
    (tmp_path / "notes.txt").touch()
    told: list[str] = []
    read = [path.name for path, _ in readable_images(list_images(tmp_path), told.append)]
    assert read == ["a.png", "d.bmp"]
    assert [name for name in ("b.JPG", "c.png", "e.png") if any(name in text for text in told)] == [
        "b.JPG",
        "c.png",
        "e.png",
    ]
    assert len(told) == 3


def test_images_of_a_folder_are_sorted_and_known_by_any_case(tmp_path: Path) -> None:
    names = [
        f"{index:02}{suffix}"
        for index, suffix in enumerate((".jpg", ".JPEG", ".Png", ".bmp", ".webp", ".tif", ".TIFF") * 6)
    ]
    for name in (*reversed(names), "a.gif", "b.onnx", "jpg", "c.jpg.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == names


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        list_images(tmp_path / "nowhere")
