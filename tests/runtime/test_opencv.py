"""OpenCV is imported by one door, which leaves the environment of child processes as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.sources import package_sources


@pytest.mark.parametrize("before", [None, "", "/opt/lib"])
def test_the_search_path_of_libraries_stays(before: str | None) -> None:
    code = "import os, sparse_detr_deploy.opencv; print(repr(os.environ.get('LD_LIBRARY_PATH')))"
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    if before is not None:
        environment["LD_LIBRARY_PATH"] = before
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(before)


def test_there_is_no_other_door() -> None:
    imports = re.compile(r"^\s*(import|from) cv2\b", re.MULTILINE)
    assert [path.name for path in package_sources() if imports.search(path.read_text(encoding="utf-8"))] == [
        "opencv.py"
    ]
