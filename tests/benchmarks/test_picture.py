"""``sparse-detr-bench draw``: detections and kept tokens in one picture; what cannot be drawn is refused."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from sparse_detr_deploy.benchmarks import picture
from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.onnx_metadata import read_metadata

GAP = 8
Export = Callable[..., ExportResult]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 255, (70, 90, 3), dtype=np.uint8))
    return folder


def draw(artefact: Path, checkpoint: Path, images: Path, output: Path, *more: str) -> Result:
    arguments = ["draw", str(artefact), str(checkpoint), "--images", str(images), "--output", str(output), *more]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_an_image_that_cannot_be_read_is_named_and_left_out(
    dynamic_tiny: ExportResult, tiny_checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    (images / "0.png").write_bytes(b"")
    result = draw(dynamic_tiny.path, tiny_checkpoint, images, tmp_path / "picture.jpg")
    assert result.exit_code == 0
    assert "left out: " in result.stderr
    assert "0.png" in result.stderr
    assert cv2.imread(str(tmp_path / "picture.jpg")).shape[1] == 2 * (4 * 128 + 2 * GAP)
    for path in images.iterdir():
        path.write_bytes(b"")
    nothing = draw(dynamic_tiny.path, tiny_checkpoint, images, tmp_path / "other.jpg")
    assert (nothing.exit_code, "no image to draw" in nothing.stderr) == (2, True)


def test_a_column_for_each_image_a_row_for_each_ratio(
    dynamic_tiny: ExportResult, tiny_checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "picture.png"
    more = ("--count", "2", "--keep-ratio", "0.1", "--keep-ratio", "0.6", "--min-score", "0")
    result = draw(dynamic_tiny.path, tiny_checkpoint, images, output, *more)
    assert result.exit_code == 0, result.stderr
    drawn = cv2.imread(str(output))
    height, width = (4 * size + 2 * GAP for size in (96, 128))
    assert drawn.shape == (3 * height, 2 * width, 3)
    detections, few, many = (drawn[row * height : (row + 1) * height] for row in range(3))
    assert few.mean() < many.mean() < detections.mean()


def test_an_artefact_of_one_ratio_is_drawn_at_it(
    export_tiny: Export, tiny_checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    artefact = export_tiny(uint8_input=True).path
    output = tmp_path / "picture.jpg"
    assert draw(artefact, tiny_checkpoint, images, output, "--count", "1").exit_code == 0
    assert cv2.imread(str(output)).shape[0] == 2 * (4 * 96 + 2 * GAP)
    refused = draw(artefact, tiny_checkpoint, images, tmp_path / "other.jpg", "--keep-ratio", "0.5")
    assert refused.exit_code == 2
    assert "runs at ρ = 0.3 only" in refused.stderr
    assert not (tmp_path / "other.jpg").exists()


def test_what_cannot_be_drawn(export_tiny: Export, tiny_checkpoint: Path, images: Path, tmp_path: Path) -> None:
    padded = draw(export_tiny(padded=True).path, tiny_checkpoint, images, tmp_path / "a.jpg")
    assert (padded.exit_code, "without --padded" in padded.stderr) == (2, True)
    suffix = draw(export_tiny().path, tiny_checkpoint, images, tmp_path / "a.gif")
    assert (suffix.exit_code, "as .jpg or .png" in suffix.stderr) == (2, True)
    ratio = draw(export_tiny().path, tiny_checkpoint, images, tmp_path / "a.jpg", "--keep-ratio", "1.5")
    assert ratio.exit_code == 2
    assert not list(tmp_path.glob("a.*"))


def test_a_checkpoint_of_another_artefact(
    export_tiny: Export, tiny_checkpoint: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = export_tiny().path
    other = dataclasses.replace(read_metadata(artefact), checkpoint={"file": "other.pth", "sha256": "0" * 64})

    @contextlib.contextmanager
    def load(path: Path) -> Iterator[Any]:
        yield SimpleNamespace(metadata=other)

    monkeypatch.setattr(picture, "Detector", SimpleNamespace(load=load))
    result = draw(artefact, tiny_checkpoint, images, tmp_path / "a.jpg")
    assert result.exit_code == 2
    assert "exported from other.pth, not from tiny.pth" in result.stderr


def test_no_image_is_drawn_over(tmp_path: Path, images: Path) -> None:
    before = (images / "1.png").read_bytes()
    result = draw(tmp_path / "none.onnx", tmp_path / "none.pth", images, images / ".." / "images" / "1.png")
    assert result.exit_code == 2
    assert "is one of the images" in result.stderr
    assert (images / "1.png").read_bytes() == before
