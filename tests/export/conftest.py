"""A small network, its official file, and a dense artefact."""

from __future__ import annotations

import pytest
import torch

from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.modeling import SparseDETR, build_model
from tests import export_cache
from tests.conftest import SIZE
from tests.export.hostile_checkpoints import CONFIG
from tests.plugins.packages import pytest_runtest_setup, pytest_runtest_teardown  # noqa: F401


@pytest.fixture(scope="module")
def network() -> SparseDETR:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(CONFIG)


@pytest.fixture(scope="module")
def official(network: SparseDETR, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = save_official_checkpoint(network, tmp_path_factory.mktemp("official") / "x.pth")
    return path.read_bytes()


@pytest.fixture(scope="session")
def dense_result(dense_model: SparseDETR) -> ExportResult:
    """``dense_model`` for the usual canvas."""
    return export_cache.exported(dense_model, ExportSpec(*SIZE, num_detections=20))
