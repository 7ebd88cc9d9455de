"""Metadata of the size that there may be are still read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparse_detr_deploy import ArtefactError, onnx_metadata
from sparse_detr_deploy.onnx_metadata import read_metadata
from tests.runtime.test_onnx_metadata import METADATA, METADATA_KEY, small_onnx


def test_as_many_bytes_as_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = METADATA.to_json()
    (tmp_path / "x.onnx").write_bytes(small_onnx(**{METADATA_KEY: text}).SerializeToString())
    monkeypatch.setattr(onnx_metadata, "MOST_METADATA_BYTES", len(text.encode()))
    assert read_metadata(tmp_path / "x.onnx") == METADATA
    monkeypatch.setattr(onnx_metadata, "MOST_METADATA_BYTES", len(text.encode()) - 1)
    with pytest.raises(ArtefactError, match="metadata is larger than"):
        read_metadata(tmp_path / "x.onnx")


@pytest.mark.parametrize("number", [0, 1, 127, 128, 129, 16383, 16384, 2**63 - 1])
def test_varints(number: int) -> None:
    """The largest of one byte, the smallest of two, and so on; nine bytes hold 63 bits."""
    rest, content = number, bytearray()
    while rest > 127:
        content.append(128 + rest % 128)
        rest //= 128
    content.append(rest)
    assert onnx_metadata._varint(bytes(content) + b"\7", 0) == (number, len(content))
