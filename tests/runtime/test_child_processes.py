"""Processes that are started import what this one imports, whatever lies in the working directory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_detr_deploy import child_processes
from tests.sources import package_sources

FILE = Path(child_processes.__file__)
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
TOLD = "import json, os, queue, sys; print(json.dumps([sys.argv[1:], sys.path, sys.flags.optimize]))"
# loads the module from its file alone, so that Pythons without NumPy can run it
PROGRAM = """
import importlib.util, json, subprocess, sys
spec = importlib.util.spec_from_file_location("child_processes", {file!r})
children = importlib.util.module_from_spec(spec)
spec.loader.exec_module(children)
"""
COMMAND = """
done = subprocess.run(children.child_command("helper", "a b", "{}", ""), capture_output=True, text=True)
print(json.dumps([done.returncode, done.stdout, done.stderr, sys.path]))
"""
SPAWN = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import time, os
from helper import told
if __name__ == "__main__":
    before = os.environ.get("PYTHONSAFEPATH")
    context = get_context("spawn")
    with children.spawning():
        with children.spawning(), ProcessPoolExecutor(1, context) as pool:
            assert pool.submit(told, 3).result() == 6
        context.Semaphore()  # starts the tracker of resources
        process = context.Process(target=told, args=(1,))
        process.start()
        process.join()
    assert process.exitcode == 0
    assert os.environ.get("PYTHONSAFEPATH") == before
    print("done")
"""


def python(version: str) -> str:
    """The executable of a Python of ``version`` that starts."""
    candidates: list[str | Path | None] = [
        shutil.which(f"python{version}"),
        *Path.home().glob(f".pyenv/versions/{version}.*/bin/python"),
    ]
    if "{}.{}".format(*sys.version_info) == version:
        candidates = [sys.executable]
    for found in filter(None, candidates):
        if subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
            return str(found)
    pytest.skip(f"there is no Python {version}")


def run(executable: str, code: str, cwd: Path, home: Path, *flags: str) -> str:
    """What a program prints that lies, with the module ``helper``, in ``home`` and runs in ``cwd``."""
    home.mkdir(exist_ok=True)
    (home / "helper.py").write_text(f"{TOLD}\ndef told(number):\n    return 2 * number\n")
    (home / "program.py").write_text(PROGRAM.format(file=str(FILE)) + code)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [executable, *flags, str(home / "program.py")],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_a_child_imports_nothing_of_the_working_directory(version: str, hostile_folder: Path, tmp_path: Path) -> None:
    code, stdout, stderr, path = json.loads(run(python(version), COMMAND, hostile_folder, tmp_path / "hömé 'x'", "-O"))
    assert code == 0, stderr
    assert json.loads(stdout) == [["a b", "{}", ""], path, 1]
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
@pytest.mark.parametrize("version", VERSIONS)
def test_what_multiprocessing_spawns_neither(version: str, hostile_folder: Path, tmp_path: Path) -> None:
    assert "done" in run(python(version), SPAWN, hostile_folder, tmp_path / "home")
    assert not (tmp_path / "ran").exists()


def test_the_case_is_a_real_one(hostile_folder: Path, tmp_path: Path) -> None:
    # without spawning() the modules of the working directory run, so that the test above can fail
    without = SPAWN.replace("children.spawning()", "open(os.devnull)")
    with contextlib.suppress(AssertionError):
        run(sys.executable, without, hostile_folder, tmp_path / "home")
    assert (tmp_path / "ran").exists()


def test_every_process_is_started_so() -> None:
    for path in package_sources():
        text = path.read_text(encoding="utf-8")
        assert path.name == FILE.name or "[sys.executable" not in text, f"{path}: use child_command"
        starts = "get_context(" in text or "multiprocessing.spawn(" in text
        assert not starts or "spawning()" in text, f"{path}: use spawning"
