"""The size of an image file as its header says, before anything is decoded.

Limited to the formats that :mod:`sparse_detr_deploy.images` takes: a file whose header is not understood here is not
handed to a decoder.
"""

from __future__ import annotations

import io
import struct

FORMATS = "JPEG, PNG, BMP, WebP or TIFF"
_JPEG, _PNG, _BMP, _WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"
# byte order, then the struct codes of the first folder's offset, the number of its entries, and their length
_TIFF = {b"II*\0": ("<", "I", "H", 12), b"MM\0*": (">", "I", "H", 12), b"II+\0": ("<", "8xQ", "Q", 20)}
_OS2_HEADER = (12).to_bytes(4, "little")  # its length
_MOST_SCANS = 100  # of a JPEG; encoders write about ten, and each takes as long as decoding the picture
_START_OF_SCAN = b"\xff\xda"
_MOST_READS = 100_000  # of a header; one that wants more is made to keep the reader busy
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length


class _PatientReader(io.BytesIO):
    """Reads so often and not oftener."""

    _left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("the header does not end")
        return super().read(size)


def stored_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) of an image file, as stored (before EXIF turns it).

    ``None`` where the header is of none of :data:`FORMATS`, damaged, or says its size in a way that decoders read
    differently.
    """
    if content.startswith(_JPEG):
        plain = content.count(_START_OF_SCAN) <= _MOST_SCANS and _is_plain_jpeg(content)
    elif content[:4] in _TIFF:
        plain = _is_plain_tiff(content)
    else:
        plain = content.startswith((_PNG, _BMP)) or (content.startswith(_WEBP) and content[8:12] == b"WEBP")
    if not plain:
        return None
    if content.startswith(_BMP) and content[14:18] == _OS2_HEADER:  # imagesize takes it for the longer one
        width, height = struct.unpack_from("<HH", content.ljust(22, b"\0"), 18)
        return (height, width) if min(height, width) > 0 else None
    import imagesize  # it imports what reads URLs, and takes as long as the rest of the package

    width, height = imagesize.get(_PatientReader(content), exif_rotation=False)
    return (height, width) if min(height, width) > 0 else None


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether segment follows segment until the frame.

    Decoders step over the bytes FF 00 between segments, imagesize takes them for a segment: a frame could hide there.
    """
    position = 2
    for _ in range(_MOST_READS):
        position = content.find(b"\xff", position)
        while 0 <= position < len(content) and content[position] == 0xFF:
            position += 1
        if not 0 <= position < len(content) or content[position] == 0:
            return False
        marker = content[position]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return True
        position += 1
        if marker not in _STANDALONE:
            position += int.from_bytes(content[position : position + 2], "big")
    return False


def _is_plain_tiff(content: bytes) -> bool:
    """Whether the first folder says width and height once: of two, libtiff takes the first, imagesize the second."""
    order, offset_code, count_code, length = _TIFF[content[:4]]
    try:
        (offset,) = struct.unpack_from(f"{order}{offset_code}", content, 0 if length == 20 else 4)
        (count,) = struct.unpack_from(f"{order}{count_code}", content, offset)
        if count > _MOST_READS:
            return False
        start = offset + struct.calcsize(f"{order}{count_code}")
        tags = [struct.unpack_from(f"{order}H", content, start + index * length)[0] for index in range(count)]
    except (struct.error, OverflowError):
        return False
    return tags.count(256) == tags.count(257) == 1
