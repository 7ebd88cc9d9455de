from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest

from sparse_detr_deploy.benchmarks.measuring import Samples
from sparse_detr_deploy.benchmarks.results import Report, Row
from sparse_detr_deploy.export import ExportSpec, load_checkpoint
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.models import digits_checkpoint
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests import export_cache

SIZE = (128, 160)


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny exported files in one folder: ``fixed`` at ρ 0.3, ``dynamic``, ``dense`` (batch 1 to 2)."""
    folder = tmp_path_factory.mktemp("artefacts")
    tiny = {"enc_layers": 1, "dec_layers": 1, "num_queries": 20, "hidden_dim": 64, "dim_feedforward": 64}
    sparse, dense = random_model("thin18", 0, **tiny), random_model("thin18", 0, rho=0.0, **tiny)
    made = {
        "fixed": export_cache.exported(sparse, ExportSpec(*SIZE, rho=0.3)),
        "dynamic": export_cache.exported(sparse, ExportSpec(*SIZE, dynamic_rho=True)),
        "dense": export_cache.exported(dense, ExportSpec(*SIZE, batch=(1, 1, 2))),
    }
    return {name: Path(shutil.copy(result.path, folder)) for name, result in made.items()}


@pytest.fixture(scope="session")
def digits_artefact() -> ExportResult:
    """The shipped checkpoint at ρ 0.3, for 160×160."""
    return export_cache.exported(load_checkpoint(digits_checkpoint()), ExportSpec(160, 160, rho=0.3))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images, a corrupt one among them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in (0, 2):
        cv2.imwrite(str(folder / f"{index}.png"), synthetic_image(index, 90, 120))
    (folder / "1.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def coco() -> dict[str, Any]:
    """Two images (and one that is nowhere) with boxes of two categories."""
    return {
        "images": [{"id": 10 + index, "file_name": f"{index}.png", "height": 90, "width": 120} for index in (0, 2, 7)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"id": 0, "image_id": 10, "category_id": 1, "bbox": [10, 10, 40, 50]},
            {"id": 1, "image_id": 10, "category_id": 3, "bbox": [60, 5, 20, 20]},
            {"id": 2, "image_id": 12, "category_id": 3, "bbox": [0, 0, 100, 80]},
        ],
    }


@pytest.fixture
def annotations(tmp_path: Path, coco: dict[str, Any]) -> Path:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco))
    return path


def unreadable(kind: str, folder: Path) -> Path:
    """Something that is no readable text file."""
    path = folder / f"{kind}.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        return Path("/dev/zero")
    elif kind == "latin-1":
        path.write_bytes('{"kind": "é"}'.encode("latin-1"))
    return path


def make_row(inference: list[float] | None = None, **changes: Any) -> Row:
    """A row as a run would give it."""
    times = inference or [100.0] * 12
    values: dict[str, Any] = {
        "name": "r50_rho30_128x160",
        "artefact": "r50_rho30_128x160.onnx",
        "sha256": "0" * 64,
        "architecture": "r50",
        "height": 128,
        "width": 160,
        "batch": 1,
        "rho": 0.3,
        "dynamic_rho": False,
        "precision": "float32",
        "tokens": 426,
        "kept": 128,
        "gmacs": 12.5,
        "runtime": {"backend": "onnxruntime"},
        "samples_ms": Samples([1.0] * len(times), times, [0.5] * len(times)),
        "peak_memory_mib": 300.0,
    }
    return Row(**{**values, **changes})


def make_report(*rows: Row, **environment: Any) -> Report:
    described = {
        "cpu": "a processor",
        "cores_usable": 2,
        "memory_gib": 4.0,
        "gpus": [],
        "os": "an OS",
        "load_average_start": [0.1, 0.1, 0.1],
        "load_average_end": None,
    }
    settings = {"backend": "onnxruntime", "provider": "cpu", "threads": None, "rounds": 12, "images": "4 images"}
    return Report(list(rows), settings, {**described, **environment})
