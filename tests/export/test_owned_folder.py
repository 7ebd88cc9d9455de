"""Programs that replace their own files do so only in folders that they have marked."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks.peers import __main__ as peers
from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export.owned_folder import check_owned, mark_owned


def test_a_folder_is_owned_from_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    check_owned(folder, ".mark", "--work")
    mark_owned(folder, ".mark")
    (folder / "file").write_text("ours")
    check_owned(folder, ".mark", "--work")
    with pytest.raises(OutputError, match=r"holds \.mark and no \.other"):
        check_owned(folder, ".other", "--work")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for name in ("file", "\0", "n" * 300):
        with pytest.raises(OutputError, match="choose another --work"):
            check_owned(tmp_path / name, ".mark", "--work")


def test_the_peers_write_over_no_exported_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs, with random weights, have the names that the export gives."""
    monkeypatch.setattr(peers, "_compare", lambda *arguments: pytest.fail("work was begun"))
    (tmp_path / "r50_rho10_800x1066.onnx").write_bytes(b"trained")
    result = CliRunner().invoke(peers.main, ["--work", str(tmp_path)])
    assert result.exit_code == 6, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["r50_rho10_800x1066.onnx"]
    monkeypatch.setattr(peers, "_compare", lambda *arguments: iter(()))
    for _ in range(2):
        assert CliRunner().invoke(peers.main, ["--work", str(tmp_path / "new")]).exit_code == 0
