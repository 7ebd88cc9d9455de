"""The cache of exported files: what changes an artefact changes its key, and a damaged file is made again."""

from __future__ import annotations

import os
import shutil
import time
import types
from collections.abc import Sequence
from pathlib import Path

import pytest

from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.modeling import SparseDETR
from tests import export_cache
from tests.conftest import SIZE, TINY, Export, pytest_configure

SPEC = ExportSpec(*SIZE, rho=0.3, num_detections=20)


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, export_tiny: Export) -> list[ExportSpec]:
    """An empty cache, and what was exported into it: a file that is there already stands for each."""
    made: list[ExportSpec] = []
    ready = export_tiny()

    def export(
        model: SparseDETR, specs: Sequence[ExportSpec], folder: Path, overwrite: bool = False
    ) -> list[ExportResult]:
        made.extend(specs)
        shutil.copy(ready.path, folder)
        return [ExportResult(folder / ready.path.name, ready.metadata, ready.verification, ready.sha256)]

    monkeypatch.setattr(export_cache, "export_artefacts", export)
    monkeypatch.setattr(export_cache, "FOLDER", tmp_path / "cache")
    return made


def test_a_file_is_made_once(exports: list[ExportSpec], tiny_model: SparseDETR) -> None:
    first, second = (export_cache.exported(tiny_model, SPEC) for _ in range(2))
    assert exports == [SPEC]
    assert first == second


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"\xff"), Path.unlink])
@pytest.mark.parametrize("suffix", [".onnx", ".sha256"])
def test_a_damaged_file_is_made_again(
    damage: object, suffix: str, exports: list[ExportSpec], tiny_model: SparseDETR
) -> None:
    first = export_cache.exported(tiny_model, SPEC)
    assert callable(damage)
    damage(first.path.with_suffix(suffix))
    assert export_cache.exported(tiny_model, SPEC) == first
    assert len(exports) == 2


def test_every_network_has_files_of_its_own(exports: list[ExportSpec], tiny_model: SparseDETR) -> None:
    models = [tiny_model, random_model("thin18", 1, **TINY), random_model("thin18", 0, **TINY, rho=0.2)]
    folders = {export_cache.exported(model, SPEC).path.parent for model in models}
    assert len(folders) == len(exports) == 3


def test_unknown_weights_are_refused() -> None:
    trained = random_model("thin18", 0, **TINY)
    trained.source = {"file": "trained.pth"}
    with pytest.raises(AssertionError, match="which weights"):
        export_cache.exported(trained, SPEC)


def test_the_key_is_of_sources_versions_and_switches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def makers() -> str:
        export_cache.makers.cache_clear()
        return export_cache.makers()

    keys = [makers(), makers()]
    assert keys[0] == keys[1]
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "a switch")
    keys.append(makers())
    monkeypatch.setattr(export_cache, "version", lambda name: "another")
    keys.append(makers())
    source = tmp_path / "sparse_detr_deploy" / "source.py"
    source.parent.mkdir()
    for text in ("one = 1", "one = 2"):
        source.write_text(text)
        monkeypatch.setattr(export_cache, "ROOT", tmp_path)
        monkeypatch.setattr(export_cache, "package_sources", lambda: [source])
        monkeypatch.setattr(export_cache.native_ops, "library_path", lambda: None)
        keys.append(makers())
    monkeypatch.undo()
    assert makers() == keys[0]
    assert len(set(keys)) == 5


def test_files_of_other_sources_are_removed(exports: list[ExportSpec], tiny_model: SparseDETR) -> None:
    kept = export_cache.exported(tiny_model, SPEC).path
    young, old = (export_cache.FOLDER / name for name in ("0123456789abcdef", "fedcba9876543210"))
    for folder in (young, old):
        folder.mkdir()
        (folder / "x.onnx").touch()
    for folder in (old, kept.parents[1]):
        os.utime(folder, (0, 0))
    export_cache.remove_old()
    assert kept.exists()
    assert young.exists()
    assert not old.exists()


def test_a_folder_in_use_is_young(exports: list[ExportSpec], tiny_model: SparseDETR) -> None:
    folder = export_cache.exported(tiny_model, SPEC).path.parents[1]
    os.utime(folder, (0, 0))
    export_cache.exported(tiny_model, SPEC)
    assert time.time() - folder.stat().st_mtime < 600


@pytest.mark.parametrize(("processes", "given", "expected"), [(2, None, "1"), (2, "4", "4"), (0, None, None)])
def test_one_key_holds_for_all_processes(
    processes: int, given: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What removes old folders counts the threads as what fills them."""
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    seen: list[str | None] = []
    monkeypatch.setattr(export_cache, "remove_old", lambda: seen.append(os.environ.get("OMP_NUM_THREADS")))
    pytest_configure(types.SimpleNamespace(getoption=lambda name, default: processes))  # type: ignore[arg-type]
    assert seen == [expected]


def test_kernels_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ops.so").touch()
    monkeypatch.setattr(export_cache.native_ops, "library_path", lambda: tmp_path / "ops.so")
    export_cache.makers.cache_clear()
    elsewhere = export_cache.makers()
    monkeypatch.undo()
    export_cache.makers.cache_clear()
    assert export_cache.makers() != elsewhere
