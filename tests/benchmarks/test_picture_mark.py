"""Plots and pictures replace those of this program, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sparse_detr_deploy.benchmarks.picture import check_picture
from sparse_detr_deploy.benchmarks.picture_mark import marked
from sparse_detr_deploy.benchmarks.plot import FORMATS, check_plot, draw_plot
from sparse_detr_deploy.errors import OutputError
from tests.benchmarks.conftest import make_report, make_row


@pytest.mark.parametrize("image_format", FORMATS)
def test_plots(image_format: str, tmp_path: Path) -> None:
    path = tmp_path / f"plot.{image_format}"
    check_plot(path)
    draw_plot(make_report(make_row()), path, image_format)
    check_plot(path)
    path.write_bytes(b"%PDF my thesis")
    with pytest.raises(OutputError, match=r"plot\..* no picture of sparse-detr-bench: choose another name"):
        check_plot(path)
    assert path.read_bytes() == b"%PDF my thesis"
    path.write_bytes(b"")
    check_plot(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    encoded = cv2.imencode(suffix, image)[1].tobytes()
    path.write_bytes(marked(encoded, suffix))
    check_picture(path)
    assert np.array_equal(cv2.imread(str(path)), cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR))
    path.write_bytes(encoded)  # a photo of somebody's
    with pytest.raises(OutputError, match="no picture of sparse-detr-bench"):
        check_picture(path)
