"""The library of fused CPU kernels, without which a test of it means nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.training.kernel_build import find_compiler


def built_library() -> Path:
    """Its path. Where it is missing the test fails if a C++ compiler is found, and is skipped if there is none.

    The installation builds it where it can and says nothing where that fails: a broken source would otherwise pass.
    """
    library = native_ops.library_path()
    if library is not None:
        return library
    if sys.platform == "win32":
        pytest.skip("the fused CPU kernels are not built on Windows")
    try:
        compiler = find_compiler()
    except BackendError:
        pytest.skip("the fused CPU kernels are not built: no C++ compiler")
    pytest.fail(
        f"the fused CPU kernels are not built, though there is {compiler[0]}: {sys.executable} setup.py build_ext --inplace"
    )
