"""Who takes part in a run, and how it is opened."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparse_detr_deploy.benchmarks import contenders
from sparse_detr_deploy.benchmarks.contenders import Runtime, line_up
from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.hashing import sha256_of


@dataclasses.dataclass(frozen=True)
class Says:
    """What an artefact says of itself, as far as a run asks."""

    rho: float | None = 0.25
    dynamic_rho: bool = False
    batch: tuple[int, int, int] = (1, 2, 4)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files; ``dynamic`` in the name makes one for every ratio, ``.engine`` one with a sidecar."""
    for name in ("fixed.onnx", "dynamic.onnx", "fixed.engine", "other/fixed.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)

    def read(path: Path) -> Says:
        return Says(dynamic_rho="dynamic" in path.name)

    monkeypatch.setattr(contenders, "read_metadata", read)
    monkeypatch.setattr(contenders, "read_sidecar", lambda path: (dataclasses.replace(read(path), rho=None), None))
    return tmp_path


def test_a_row_for_each_file_and_for_each_ratio_of_a_dynamic_one(files: Path) -> None:
    found = line_up([files / "fixed.onnx", files / "dynamic.onnx"], [0.5, 0.1, 0.5])
    assert [(one.name, one.keep_ratio, one.rho, one.title) for one in found] == [
        ("fixed", None, 0.25, "fixed"),
        ("dynamic", 0.5, 0.5, "dynamic at ρ 0.5"),
        ("dynamic", 0.1, 0.1, "dynamic at ρ 0.1"),
    ]
    assert [one.sha256 for one in found[:2]] == [sha256_of(one.path) for one in found[:2]]
    (trained,) = line_up([files / "dynamic.onnx"])
    assert (trained.keep_ratio, trained.rho, trained.title) == (None, 0.25, "dynamic at ρ 0.25")


def test_files_of_one_name_are_numbered_and_engines_have_a_sidecar(files: Path) -> None:
    paths = [files / name for name in ("fixed.onnx", "fixed.engine", "dynamic.onnx", "other/fixed.onnx")]
    found = line_up(paths)
    assert [one.name for one in found] == ["fixed", "fixed (2)", "dynamic", "fixed (3)"]
    assert [one.path for one in found] == paths
    assert [one.rho for one in found] == [0.25, None, 0.25, 0.25]


def test_ratios_that_no_file_takes(files: Path) -> None:
    with pytest.raises(InputError, match="every artefact here is fixed"):
        line_up([files / "fixed.onnx"], [0.5])
    with pytest.raises(InputError, match="keep ratio"):
        line_up([files / "dynamic.onnx"], [1.5])


def test_batches_from_the_smallest_to_the_largest(files: Path) -> None:
    path = files / "fixed.onnx"
    assert [line_up([path], (), batch)[0].batch for batch in (None, 1, 3, 4)] == [2, 1, 3, 4]
    for batch in (0, 5):
        with pytest.raises(InputError, match=f"takes batches of 1 to 4, not of {batch}"):
            line_up([path], (), batch)


def test_a_file_that_cannot_be_read(files: Path) -> None:
    with pytest.raises(ArtefactError, match=r"gone\.onnx cannot be read \(No such file"):
        line_up([files / "gone.onnx"])


@pytest.mark.parametrize(
    ("runtime", "name", "expected"),
    [
        (Runtime(threads=3), "a.onnx", ("onnxruntime", {"num_threads": 3, "providers": "cpu"})),
        (Runtime(provider="cuda", device=1), "a.onnx", ("onnxruntime", {"num_threads": None, "providers": "cuda"})),
        (Runtime("openvino", threads=2), "a.onnx", ("openvino", {"num_threads": 2})),
        (
            Runtime(threads=3, device=1, cuda_graphs=False, allow_host_code=True),
            "a.engine",
            (None, {"device": 1, "cuda_graphs": False, "allow_host_code": True}),
        ),
        (Runtime(), "a.engine", (None, {"device": 0, "cuda_graphs": True, "allow_host_code": False})),
    ],
)
def test_a_file_is_opened_with_its_own_options(
    runtime: Runtime, name: str, expected: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def load(path: Path, backend: str | None = None, **options: Any) -> None:
        calls.append((path, backend, options))

    monkeypatch.setattr(contenders, "Detector", SimpleNamespace(load=load))
    runtime.open(Path(name))
    assert calls == [(Path(name), *expected)]


def test_openvino_runs_on_the_cpu() -> None:
    with pytest.raises(InputError, match="leave --provider cuda out"):
        Runtime("openvino", "cuda")
