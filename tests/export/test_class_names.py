"""Class names from files that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export import class_names
from sparse_detr_deploy.export.class_names import read_class_names


@pytest.mark.parametrize("kind", ["FIFO", "device", "folder"])
def test_what_is_no_regular_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    code = f"""
import resource
from pathlib import Path
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.class_names import read_class_names
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))  # what reads a device to its end must end itself
try:
    read_class_names(Path({str(path)!r}))
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"names.txt cannot be read (it is a {kind}" in done.stdout, done.stderr[-500:]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"cat\n\xff\xfe")
    with pytest.raises(InputError, match=r"names\.txt cannot be read \(it is not UTF-8 text"):
        read_class_names(tmp_path / "names.txt")


def test_more_than_names_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_names, "_MOST_BYTES", 10)
    (tmp_path / "names.txt").write_text("cat\n" * 5)
    with pytest.raises(InputError, match="it is larger than 10 bytes"):
        read_class_names(tmp_path / "names.txt")
