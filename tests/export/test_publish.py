"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse_detr_deploy.errors import InputError, OutputError, SparseDetrError
from sparse_detr_deploy.export.publish import check_output, check_replaced, publish


def test_a_file_appears(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.onnx"
    with publish(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError, InputError])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_left_when_the_writer_dies(tmp_path: Path, error: type[BaseException], there: bool) -> None:
    path = tmp_path / "x.onnx"
    if there:
        path.write_bytes(b"old")

    def write() -> None:
        with publish(path, overwrite=True) as temporary:
            temporary.write_bytes(b"half")
            raise error("stop")

    with pytest.raises(error):
        write()
    assert [file.name for file in tmp_path.iterdir()] == (["x.onnx"] if there else [])
    if there:
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left"), (errno.EDQUOT, "no space left"), (errno.EIO, "cannot be written")],
)
def test_errors_of_the_system(tmp_path: Path, number: int, message: str) -> None:
    def write() -> None:
        with publish(tmp_path / "x.onnx") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(number, "the system's words")

    with pytest.raises(OutputError, match=rf"{message}.*the system's words"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_device_that_is_full(tmp_path: Path) -> None:
    def write() -> None:
        with publish(tmp_path / "x.onnx") as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"content")

    with pytest.raises(OutputError, match="no space left"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the system")
def test_no_room_for_a_large_file(tmp_path: Path) -> None:
    """The system really refuses to write on: torch.save alone would give an error that does not say why."""
    code = f"""
import resource, torch
from pathlib import Path
from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.modeling import ModelConfig, build_model
model = build_model(ModelConfig(enc_layers=1, dec_layers=1, num_queries=5))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    save_official_checkpoint(model, Path({str(tmp_path)!r}) / "x.pth")
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no space left" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"):
        check_output(tmp_path / "x.onnx")
    check_output(tmp_path / "x.onnx", overwrite=True)
    assert (tmp_path / "x.onnx").read_bytes() == b"old"


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_in_the_way(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "x.onnx", overwrite)


def test_a_broken_link_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "x.onnx")


@pytest.mark.parametrize("place", ["file/out", "file", "\0", "n" * 300])
def test_folders_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a regular file")
    with pytest.raises(OutputError, match="choose another place") as caught:
        check_output(tmp_path / place / "x.onnx")
    assert isinstance(caught.value, SparseDetrError)
    assert caught.value.exit_code == 6
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "pathconf"), reason="needs POSIX")
def test_a_long_name(tmp_path: Path) -> None:
    """What the file system takes is written; the temporary file needs no room beside the name."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    path = tmp_path / f"{'n' * (longest - 5)}.onnx"
    with publish(path) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    with pytest.raises(OutputError, match=r"File name too long.*shorter"):
        check_output(tmp_path / f"{'n' * (longest - 4)}.onnx")
    with pytest.raises(OutputError, match=r"File name too long.*shorter"), publish(tmp_path / f"{'n' * 5000}.onnx"):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_clean_up_that_fails_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that turns read-only between."""

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def write() -> None:
        with publish(tmp_path / "x.onnx") as temporary:
            monkeypatch.setattr(Path, "unlink", unlink)
            temporary.write_bytes(b"half")
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OutputError, match=r"x\.onnx cannot be written \(Input/output error\)"):
        write()


def write_two(path: Path, overwrite: bool) -> None:
    """The inner one ends first."""
    with publish(path, overwrite) as one, publish(path, overwrite) as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")


@pytest.mark.parametrize("links", [True, False])
def test_of_two_at_once_the_second_writes_over_nothing(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On file systems without hard links too."""

    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", link)
    with pytest.raises(OutputError, match=r"x\.onnx exists already, written by another program meanwhile.*--force"):
        write_two(tmp_path / "x.onnx", overwrite=False)
    assert (tmp_path / "x.onnx").read_bytes() == b"other"
    assert [file.name for file in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").stat().st_nlink == 1


def test_of_two_at_once_that_may_overwrite_the_second_does(tmp_path: Path) -> None:
    write_two(tmp_path / "x.onnx", overwrite=True)
    assert (tmp_path / "x.onnx").read_bytes() == b"one"


def test_without_links_a_rename_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(
            errno.EPERM if target.name == "x.onnx" and not target.exists() else errno.EIO, "the system's words"
        )

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="the system's words"), publish(tmp_path / "x.onnx") as temporary:
        temporary.write_bytes(b"whole")
    assert list(tmp_path.iterdir()) == []


RACE = """
import sys, time
from pathlib import Path
from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export.publish import publish
path, mark, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
wins = 0
for index in range(100):
    name = path / f"{index}.onnx"
    try:
        with publish(name) as temporary:
            temporary.write_text(mark * 1000)
            if index == 0:
                time.sleep(max(0, start - time.time()))
        wins += 1
    except OutputError:
        pass
print(wins)
"""


def test_processes_that_race_for_names(tmp_path: Path) -> None:
    """Each name has one winner, and holds what that one wrote."""
    start = time.time() + 3
    racers = {
        mark: subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), mark, str(start)], stdout=subprocess.PIPE, text=True
        )
        for mark in "ab"
    }
    wins = {mark: int(racer.communicate(timeout=300)[0]) for mark, racer in racers.items()}
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert len(texts) == 100
    assert sum(wins.values()) == 100
    for mark, count in wins.items():
        assert texts.count(mark * 1000) == count


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the system has no /proc")
def test_a_read_only_file_system() -> None:
    with pytest.raises(OutputError, match="cannot be written to"):
        check_output(Path("/proc/sparse-detr/x.onnx"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_device_or_fifo_is_not_replaced(tmp_path: Path) -> None:
    """``--json /dev/null`` of root would put a regular file there."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "fifo", tmp_path / "link"):
        before = path.lstat()
        with pytest.raises(OutputError, match="not a regular file"), publish(path, overwrite=True) as temporary:
            temporary.write_bytes(b"content")
        assert os.path.samestat(path.lstat(), before)
    assert {path.name for path in tmp_path.iterdir()} == {"fifo", "link"}


def test_only_older_results_are_written_over_unasked(tmp_path: Path) -> None:
    start = '{"kind": "results"'
    for name, content, good in (
        ("old.json", '{\n "kind": "results",\n "rows": []}', True),
        ("OLD.JSON", '{"kind":"results"}', True),
        ("empty.json", "", True),
        ("engine.json", '{"engine": {}}', False),
        ("model.onnx", '{"kind": "results"}', False),
        ("bytes.json", "\0\1", False),
    ):
        path = tmp_path / name
        path.write_text(content)
        if good:
            check_replaced(path, (".json",), start)
        else:
            with pytest.raises(OutputError, match=rf"{name} is there, and is not an older result"):
                check_replaced(path, (".json",), start)
        assert path.read_text() == content
    check_replaced(tmp_path / "new.onnx", (".json",))
    (tmp_path / "any.csv").write_text("a,b\n")
    check_replaced(tmp_path / "any.csv", (".csv",))
