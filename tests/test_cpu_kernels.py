"""Tests of the CPU kernels are skipped for one reason only: nothing that could build them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sparse_detr_deploy import native_ops
from tests.cpu_kernels import built_library


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The library is missing, and the folder given back is all of the path."""
    monkeypatch.setattr(native_ops, "library_path", lambda: None)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_library_that_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_ops, "library_path", lambda: Path("ops.so"))
    assert built_library() == Path("ops.so")


@pytest.mark.skipif(sys.platform == "win32", reason="builds no kernels")
@pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
def test_a_missing_library_fails_where_a_compiler_is_found(name: str, not_built: Path) -> None:
    (not_built / name).touch(mode=0o755)
    with pytest.raises(pytest.fail.Exception, match=rf"/{name.replace('+', '.')}: .* setup.py build_ext --inplace$"):
        built_library()


def test_a_missing_library_is_skipped_without_a_compiler(not_built: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="no C.. compiler"):
        built_library()


def test_windows_builds_none(not_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (not_built / "c++").touch(mode=0o755)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(pytest.skip.Exception, match="Windows"):
        built_library()
