"""What the reader of headers must not step over, at its edges."""

from __future__ import annotations

import struct

import pytest

from sparse_detr_deploy import image_header
from sparse_detr_deploy.image_header import _PatientReader, stored_size
from tests.runtime.test_image_header import FILES, decoded
from tests.runtime.test_images import png_header


def test_a_reader_loses_its_patience() -> None:
    reader = _PatientReader(b"abc")
    reader._left = 2
    assert (reader.read(1), reader.read(1)) == (b"a", b"b")
    with pytest.raises(ValueError, match="does not end"):
        reader.read(1)


def test_another_format_that_says_webp_where_webp_does() -> None:
    """A GIF of the height "WE", which imagesize would read."""
    assert stored_size(b"GIF89a" + struct.pack("<H", 16) + b"WEBP" + bytes(20)) is None


def test_what_is_inside_a_segment_is_not_read() -> None:
    """FF 00 would end the search between segments."""
    segment = b"\xff\xe1" + struct.pack(">H", 302) + b"\xff\0" * 150
    assert stored_size(FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]) == (40, 60)


def test_a_jpeg_of_as_many_segments_as_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = b"\xff\xe1\0\x04ab" * 5
    content = FILES["jpeg"][:2] + segments + b"\xff\xc0\0\x0b" + bytes(9)
    monkeypatch.setattr(image_header, "_MOST_READS", 6)
    assert image_header._is_plain_jpeg(content)
    monkeypatch.setattr(image_header, "_MOST_READS", 5)
    assert not image_header._is_plain_jpeg(content)


@pytest.mark.parametrize(("tags", "plain"), [((256, 257), True), ((256, 257, 257, 258), False), ((256, 258), False)])
def test_a_tiff_says_each_side_once(tags: tuple[int, ...], plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, 9) for tag in tags)
    content = b"II*\0" + struct.pack("<I", 8) + folder + bytes(4)
    monkeypatch.setattr(image_header, "_MOST_READS", len(tags))  # as many as are read
    assert image_header._is_plain_tiff(content) is plain
    monkeypatch.setattr(image_header, "_MOST_READS", len(tags) - 1)
    assert not image_header._is_plain_tiff(content)


def test_the_size_is_that_before_exif_turns_the_image() -> None:
    exif = struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x0112, 3, 1, 6, 0, 0)  # turned by a quarter
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    content = FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]
    image = decoded(content)
    assert image is not None
    assert image.shape == (60, 40, 3)
    assert stored_size(content) == (40, 60)


@pytest.mark.parametrize("marker", range(0xC0, 0xD0))
def test_markers_of_frames(marker: int) -> None:
    """Tables (C4, CC) and the reserved C8 are no frames: what decoders read otherwise may follow them."""
    content = b"\xff\xd8\xff" + bytes([marker]) + b"\0\4ab\xff\0\xff\xc0\0\4ab"
    assert image_header._is_plain_jpeg(content) is (marker not in (0xC4, 0xC8, 0xCC))


@pytest.mark.parametrize(("width", "height"), [(5, 0), (0, 5), (0, 0)])
def test_images_without_pixels(width: int, height: int) -> None:
    assert stored_size(png_header(width, height)) is None
    os2 = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, width, height, 1, 24)
    assert stored_size(os2) is None


@pytest.mark.parametrize(
    ("head", "count", "entry"), [("II*\0", "<IH", "<HHII"), ("MM\0*", ">IH", ">HHII"), ("II+\0", "", "<HHQQ")]
)
def test_a_tiff_of_every_order(head: str, count: str, entry: str) -> None:
    """Many entries, so that their length counts: the sides are the last ones."""
    tags = (254, 258, 259, 262, 256, 257)
    folder = b"".join(struct.pack(entry, tag, 4, 1, 9) for tag in tags)
    # of BigTIFF: the length of an offset, and padding, stand before it
    start = struct.pack("<HHQQ", 8, 0, 16, len(tags)) if head == "II+\0" else struct.pack(count, 8, len(tags))
    assert image_header._is_plain_tiff(head.encode() + start + folder)
    assert not image_header._is_plain_tiff(head.encode() + start + folder[: -2 * len(folder) // len(tags)])


def test_a_patient_reader_reads_to_the_end() -> None:
    assert _PatientReader(b"abc").read() == b"abc"
