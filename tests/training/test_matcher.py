"""The assignment of predictions to objects, where it cannot be made."""

from __future__ import annotations

import sys

import pytest
import torch

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.training.matcher import HungarianMatcher
from sparse_detr_deploy.training.targets import Targets


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    targets = Targets.of([torch.zeros(1, dtype=torch.int64)], [torch.full((1, 4), 0.5)])
    with pytest.raises(BackendError, match=r"scipy is not installed: pip install 'sparse-detr-deploy\[train\]'"):
        HungarianMatcher()(Prediction(torch.zeros(1, 2, 3), torch.full((1, 2, 4), 0.5)), targets)
