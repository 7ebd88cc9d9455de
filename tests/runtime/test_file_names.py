"""Text of a foreign file that becomes a path stays where it belongs."""

from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.file_names import inner_path_fault, name_fault
from sparse_detr_deploy.metadata import Metadata
from tests.runtime.test_metadata import PLAIN

HOSTILE = [
    "",
    ".",
    "..",
    "../../x",
    "/abs/x",
    "a/b",
    "a\\b",
    "..\\x",
    "C:x",
    "\\\\server\\share",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x9bb",
    "a\u2028b",
    "a\u2029b",
    "a\u202eb",
    "a\u200bb",
    "\ud800",
    "x" * 201,
    "é" * 101,
    "x ",
    "x.",
    " ",
    "-rf",
    ".hidden",
    "nul",
    "COM1.x",
    "a*b",
    "a?b",
    'a"b',
    "a<b",
    "a|b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_are_refused(name: str) -> None:
    assert name_fault(name) is not None
    with pytest.raises(ArtefactError, match="x.onnx"):
        Metadata.from_json(json.dumps({**json.loads(PLAIN.to_json()), "name": name}), "x.onnx")


@pytest.mark.parametrize(
    "name", ["r50_rho30_800x1066", "r50_rho12.5_96x128_b1-4_padded", "größe ρ", "x" * 200, "console", "a-b", "_"]
)
def test_names_that_are_taken(name: str) -> None:
    assert name_fault(name) is None


@given(st.text(max_size=8) | st.text("./\\:~-ab", max_size=8))
def test_a_name_is_one_component_on_every_system(name: str) -> None:
    if name_fault(name) is None:
        for kind in (PurePosixPath, PureWindowsPath):
            path = kind("folder") / f"{name}.engine"
            assert path.parent == kind("folder")
            assert path.name == f"{name}.engine"


@pytest.mark.parametrize("path", ["1.jpg", "12:30:05.jpg", "cam:1/a.jpg", "train/1.jpg", "a b/ü.png", "...", "-x"])
def test_paths_below_a_folder(path: str) -> None:
    assert inner_path_fault(path) is None


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../1.jpg", "a/../../1.jpg", "C:\\1.jpg", "..\\1.jpg", "a\0", "\ud800"]
)
def test_paths_that_lead_out(path: str) -> None:
    assert inner_path_fault(path) is not None
