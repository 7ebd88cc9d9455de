"""FIFOs and devices are refused before they are opened; no more is read than is allowed."""

import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_detr_deploy.regular_files import check_regular, open_regular, read_bytes, read_text


def test_reads_a_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("größe", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_text(tmp_path / "link", 100) == "größe"
    with open_regular(tmp_path / "file") as file:
        assert file.read() == "größe".encode()
    check_regular(tmp_path / "link")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(tmp_path / "file", 100) == "{}"


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def _socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return folder / "socket"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_fifo, "it is a FIFO"),
        (_socket, "it is a socket"),
        (lambda folder: Path("/dev/zero"), "it is a device"),
        (lambda folder: folder, "it is a folder"),
        (lambda folder: folder / "absent", "No such file"),
        (lambda folder: folder / "a\0b", "null"),
        (lambda folder: folder / ("x" * 300), "name too long"),
    ],
)
def test_refuses_what_is_no_regular_file(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    path = make(tmp_path)
    for read in (check_regular, lambda path: read_bytes(path, 10), lambda path: read_text(path, 10)):
        with pytest.raises(OSError, match=said):
            read(path)


def test_a_file_that_became_a_fifo_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    regular = tmp_path / "file"
    regular.write_bytes(b"x")
    status, fifo = os.stat(regular), _fifo(tmp_path)
    monkeypatch.setattr("sparse_detr_deploy.regular_files.os.stat", lambda path: status)
    with pytest.raises(OSError, match="FIFO"):
        read_bytes(fifo, 10)


def test_limits(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bytes(tmp_path / "file", 4)


def test_what_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9")
    with pytest.raises(OSError, match="not UTF-8 text"):
        read_text(tmp_path / "file", 10)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_files_that_say_no_size_are_read_to_the_end() -> None:
    assert read_bytes("/proc/self/status", 10**6).startswith(b"Name:")
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_bytes("/proc/self/status", 10)


def test_no_more_is_allocated_than_there_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    tracemalloc.start()
    read_bytes(tmp_path / "file", 2**30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
