"""A fake GPU, and engines for it that are ONNX files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Export
from tests.fakes.engine_files import fake_engine
from tests.fakes.machine import Machine, fake_machine
from tests.plugins.packages import pytest_runtest_setup, pytest_runtest_teardown  # noqa: F401
from tests.runtime.engine_cases import VARIANTS, Make


@pytest.fixture(scope="session")
def exported(export_tiny: Export) -> dict[str, Path]:
    """The variants, exported while there are no fakes: torch looks for a module ``tensorrt`` too."""
    return {name: export_tiny(**options).path for name, options in VARIANTS.items()}


@pytest.fixture
def machine(exported: dict[str, Path]) -> Iterator[Machine]:
    with fake_machine() as machine:
        yield machine


@pytest.fixture
def make(exported: dict[str, Path], tmp_path: Path) -> Make:
    """Build a fake engine of a variant; further arguments go into the sidecar."""

    def build(variant: str = "fixed", **record: Any) -> Path:
        return fake_engine(exported[variant], tmp_path / f"{variant}.engine", **record)

    return build
