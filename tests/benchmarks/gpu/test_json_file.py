"""Files of the GPU scripts."""

from pathlib import Path

import pytest

from benchmarks.gpu.json_file import check_json, write_json
from sparse_detr_deploy.errors import OutputError


def test_replaces_an_older_one_only(tmp_path: Path) -> None:
    path, artefact = tmp_path / "new" / "kernels.json", tmp_path / "model.onnx"
    check_json(path)
    write_json(path, {"rows": []})
    check_json(path)
    write_json(path, {"rows": [1]})
    assert path.read_text() == '{\n "rows": [\n  1\n ]\n}\n'
    artefact.write_bytes(b"weights")
    with pytest.raises(OutputError, match="not an older result"):
        check_json(artefact)
    assert sorted(file.name for file in path.parent.iterdir()) == ["kernels.json"]


def test_a_failed_write_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    write_json(path, {})
    with pytest.raises(TypeError):
        write_json(path, {"device": object()})
    assert path.read_text() == "{}\n"
