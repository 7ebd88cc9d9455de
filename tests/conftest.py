"""A tiny sparse detector, its checkpoint and its artefacts, each made once a session."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.modeling import SparseDETR
from tests import export_cache

SIZE = (96, 128)
TINY = {
    "enc_layers": 2,
    "dec_layers": 2,
    "num_queries": 20,
    "num_classes": 5,
    "hidden_dim": 64,
    "dim_feedforward": 64,
}

NAMES = ("cat", "dog", "bird", "größe", "ρ")

# of the standard library (used by runpy, multiprocessing and their like), of others, and what Python imports by itself
_MODULES: tuple[str, ...] = (
    "json",
    "numpy",
    "queue",
    "pickle",
    "socket",
    "struct",
    "threading",
    "signal",
    "subprocess",
    "multiprocessing",
)
_MODULES += (
    "runpy",
    "types",
    "enum",
    "os",
    "sys",
    "sitecustomize",
    "usercustomize",
    "selectors",
    "tempfile",
    "logging",
)
_MODULES += ("sparse_detr_deploy", "onnxruntime", "cv2", "click", "rich", "psutil", "helper")

Export = Callable[..., ExportResult]


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A folder full of modules that leave their name in the file ``ran`` beside it when they are imported."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in _MODULES:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ')\n")
    return folder


# no test fails because the machine is busy
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else what tests start and interrupt never ends
    if config.getoption("numprocesses", None):
        # the processes inherit it: threads of each would wait for those of others, and all have the cache's key
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not hasattr(config, "workerinput"):
        export_cache.remove_old()


@pytest.fixture(scope="session")
def tiny_model() -> SparseDETR:
    """A thin ResNet-18 with 2+2 narrow layers, 20 queries, 5 classes, ρ 0.3."""
    return random_model("thin18", 0, **TINY)


@pytest.fixture(scope="session")
def dense_model() -> SparseDETR:
    """The same with a dense encoder."""
    return random_model("thin18", 0, rho=0.0, **TINY)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model: SparseDETR, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official file of ``tiny_model``."""
    return save_official_checkpoint(tiny_model, tmp_path_factory.mktemp("checkpoint") / "tiny.pth")


@pytest.fixture(scope="session")
def dynamic_tiny(export_tiny: Export) -> ExportResult:
    """``tiny_model`` for every ρ, with class names."""
    return export_tiny(dynamic_rho=True, class_names=NAMES)


@pytest.fixture(scope="session")
def export_tiny(tiny_model: SparseDETR) -> Export:
    """Export ``tiny_model`` for 96×128, verified, with 20 detections; fields of ``ExportSpec`` may be given.

    The files are shared by every test: copy one before you change it.
    """

    def export(**changes: Any) -> ExportResult:
        fields = {"num_detections": 20, "rho": None if changes.get("dynamic_rho") else 0.3, **changes}
        height, width = fields.pop("size", SIZE)
        return export_cache.exported(tiny_model, ExportSpec(height, width, **fields))

    return export
