"""What can be said of an image without opening its file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.images import check_image_like


def test_arrays() -> None:
    check_image_like(np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(InputError, match=r"frame 7 is uint8 \[2, 3\], a grey image"):
        check_image_like(np.zeros((2, 3), np.uint8), "frame 7")


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image, but a file")
    os.mkfifo(tmp_path / "fifo.png")
    check_image_like(tmp_path / "x.png")
    check_image_like(str(tmp_path / "x.png"))
    for name, why in (("nowhere.png", "No such file"), ("fifo.png", "FIFO")):
        with pytest.raises(InputError, match=rf"{name} cannot be read \(.*{why}"):
            check_image_like(tmp_path / name)
