"""What the reader of headers must not step over, at its edges."""

from __future__ import annotations

import struct

import pytest

from sparse_detr_deploy import image_header
from sparse_detr_deploy.image_header import _PatientReader, stored_size
from tests.runtime.test_image_header import FILES


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
