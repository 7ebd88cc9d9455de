"""Annotations that are too large to look into are not written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.training import coco


def test_annotations_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "_MOST_BYTES", 10)
    (tmp_path / "val.json").write_text('{"info": {"generator": "sparse-detr-deploy 0.2"}, "images": []}')
    with pytest.raises(OutputError, match=r"val\.json is not replaced, because it cannot be read \(.*10 bytes"):
        coco.check_dataset(tmp_path, "val", overwrite=True)
    monkeypatch.undo()
    assert coco.check_dataset(tmp_path, "val", overwrite=True) == []
