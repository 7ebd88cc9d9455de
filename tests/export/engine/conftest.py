"""A dense artefact beside the sparse ones of the suite."""

from __future__ import annotations

import pytest

from sparse_detr_deploy.export.pipeline import ExportResult, export_artefacts
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.modeling import SparseDETR
from tests.conftest import SIZE


@pytest.fixture(scope="session")
def dense_result(dense_model: SparseDETR, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """``dense_model`` for the usual canvas."""
    spec = ExportSpec(*SIZE, num_detections=20)
    return export_artefacts(dense_model, [spec], tmp_path_factory.mktemp("dense"))[0]
