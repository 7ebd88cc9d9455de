"""The digest of an exported file tells of every changed bit."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from pathlib import Path

import onnx
import pytest

from sparse_detr_deploy import ArtefactError, Detector
from sparse_detr_deploy.export.engine.doctor import ABSENT, GOOD, WRONG, examine
from sparse_detr_deploy.export.graph import set_metadata
from sparse_detr_deploy.onnx_digest import PLACEHOLDER, check_digest, seal
from sparse_detr_deploy.onnx_metadata import read_metadata
from tests.conftest import Export
from tests.fakes.engine_files import fake_engine
from tests.fakes.machine import fake_machine
from tests.runtime.test_onnx_metadata import METADATA, METADATA_KEY, small_onnx


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An exported file, but small."""
    path = tmp_path / "small.onnx"
    metadata = dataclasses.replace(METADATA, digest=PLACEHOLDER)
    path.write_bytes(small_onnx(other="thing", **{METADATA_KEY: metadata.to_json()}).SerializeToString())
    seal(path)
    return path


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0] ^ 1 << bit % 8
        file.seek(bit // 8)
        file.write(bytes([byte]))


def refused(path: Path, message: str, backend: str | None = None) -> None:
    with pytest.raises(ArtefactError, match=message):
        Detector.load(path, backend, verify=True)


def test_every_bit_counts(small: Path) -> None:
    """Graph, weights, metadata, their tags and lengths, and the digest itself: every bit in turn."""
    check_digest(small)
    for bit in range(small.stat().st_size * 8):
        flip(small, bit)
        with pytest.raises(ArtefactError):
            check_digest(small)
        flip(small, bit)
    check_digest(small)


def test_bits_of_an_exported_file(export_tiny: Export, tmp_path: Path) -> None:
    """60 of them, as on an unlucky day; without ``verify`` most files of these still load."""
    path = tmp_path / "x.onnx"
    path.write_bytes(export_tiny().path.read_bytes())
    bits = path.stat().st_size * 8
    generator = random.Random(0)
    for bit in [generator.randrange(bits) for _ in range(60)]:
        flip(path, bit)
        refused(path, "x.onnx")
        flip(path, bit)
    Detector.load(path, verify=True, num_threads=1).close()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_weights_that_changed_are_refused_by_every_backend(backend: str, export_tiny: Export, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    content = export_tiny(inline_functions=True).path.read_bytes()
    path.write_bytes(content)
    Detector.load(path, backend, verify=True, num_threads=1).close()
    weights = max(onnx.load_from_string(content).graph.initializer, key=lambda tensor: len(tensor.raw_data)).raw_data
    flip(path, 8 * (content.index(weights) + len(weights) // 2))
    Detector.load(path, backend, num_threads=1).close()  # nobody else notices
    refused(path, r"x\.onnx is not as it was exported.*copy it again, or export it again", backend)
    assert {finding.subject: finding.state for finding in examine(path)}["digest"] == WRONG


def test_engines_are_always_compared(export_tiny: Export, tmp_path: Path) -> None:
    onnx_file = export_tiny().path
    with fake_machine():
        path = fake_engine(onnx_file, tmp_path / "x.engine")
        Detector.load(path, verify=True).close()
        flip(path, 8000)
        for verify in (True, False):
            with pytest.raises(ArtefactError, match="SHA-256 differ"):
                Detector.load(path, verify=verify)


def test_a_file_without_digest(small: Path, tmp_path: Path) -> None:
    """As older versions wrote them."""
    path = tmp_path / "old.onnx"
    path.write_bytes(small_onnx(**{METADATA_KEY: METADATA.to_json()}).SerializeToString())
    refused(path, r"old\.onnx has no digest.*older version; export it again")
    found = {finding.subject: finding for finding in examine(path)}["digest"]
    assert (found.state, found.mend) == (ABSENT, "export it again")
    assert {finding.subject: finding.state for finding in examine(small)}["digest"] == GOOD


def test_a_file_that_was_rewritten(small: Path) -> None:
    """Another program may write the same JSON in another form."""
    text = re.sub(r'"digest": "', '"digest":"', read_metadata(small).to_json())
    small.write_bytes(small_onnx(**{METADATA_KEY: text}).SerializeToString())
    refused(small, "rewritten by another program")


def test_the_digest_is_what_it_is_said_to_be(export_tiny: Export) -> None:
    """The SHA-256 of the file with zeros in its own place; the same that the result of the export has."""
    result = export_tiny()
    content = result.path.read_bytes()
    digest = read_metadata(result.path).digest
    assert digest == result.metadata.digest
    assert content.count(digest.encode()) == 1
    assert hashlib.sha256(content.replace(digest.encode(), PLACEHOLDER.encode())).hexdigest() == digest


def test_setting_the_metadata_again_makes_it_wrong(export_tiny: Export, tmp_path: Path) -> None:
    proto = onnx.load(export_tiny().path)
    set_metadata(proto, dataclasses.replace(export_tiny().metadata, rho=0.31))
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    refused(tmp_path / "x.onnx", "is not as it was exported")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        check_digest(tmp_path / "x.onnx")
    with pytest.raises(ArtefactError, match="is a folder"):
        check_digest(tmp_path)
