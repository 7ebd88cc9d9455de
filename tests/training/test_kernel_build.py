"""The attention kernel is compiled once, by one process, for this machine, and no kill hangs or spoils the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sparse_detr_deploy.errors import BackendError, OutputError
from sparse_detr_deploy.training import kernel_build
from sparse_detr_deploy.training.kernel_build import DIGEST, LIBRARY, MODULE, built_kernel, find_compiler, kernel_key
from tests.processes import has_ended

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
# compiles as long as there is a file "slow" beside it, and writes its process number down
COMPILER = """#!/bin/sh
here=$(dirname "$0")
for last; do :; done
if [ "$last" = --version ]; then cat "$here/version"; exit; fi
echo $$ >> "$here/calls"
while [ -e "$here/slow" ]; do sleep 0.05; done
[ -e "$here/broken" ] && { echo "x.cpp:1:1: error: expected ';'"; exit 1; }
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
echo "a library" > "$out"
"""
PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from sparse_detr_deploy.cli_support import reports_errors
from sparse_detr_deploy.training.kernel_build import built_kernel
reports_errors(lambda: print(built_kernel()))()
"""


class Compiler:
    """A stand-in for the compiler, first on the path, and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder / "bin", folder / "cache" / "sparse-detr-deploy" / "training"
        self.folder.mkdir()
        path = self.folder / "c++"
        path.write_text(COMPILER)
        path.chmod(0o755)
        self.version("stand-in 1.0\nmore")

    def version(self, text: str) -> None:
        (self.folder / "version").write_text(text)

    def mark(self, name: str) -> Path:
        path = self.folder / name
        path.touch()
        return path

    def calls(self) -> list[int]:
        path = self.folder / "calls"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def started(self, process: subprocess.Popen[str], calls: int = 1) -> None:
        while len(self.calls()) < calls:
            assert process.poll() is None
            time.sleep(0.02)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    found = Compiler(tmp_path)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", f"{found.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def begin() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_compiled_once_and_nothing_else_is_left(compiler: Compiler) -> None:
    library = built_kernel()
    assert built_kernel() == library == compiler.cache / kernel_key(find_compiler()) / LIBRARY
    assert library.read_text() == "a library\n"
    assert len(compiler.calls()) == 1
    assert {path.name for path in compiler.cache.rglob("*")} == {library.parent.name, LIBRARY, DIGEST}


@pytest.mark.parametrize("file", [LIBRARY, DIGEST])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_library_is_compiled_again(file: str, damage: str, compiler: Compiler) -> None:
    library = built_kernel()
    if damage == "cut":
        os.truncate(library.with_name(file), 5)
    else:
        library.with_name(file).unlink()
    assert built_kernel() == library
    assert library.read_text() == "a library\n"
    assert len(compiler.calls()) == 2
    built_kernel()
    assert len(compiler.calls()) == 2


def test_two_at_once_compile_once(compiler: Compiler) -> None:
    slow = compiler.mark("slow")
    first = begin()
    compiler.started(first)
    second = begin()
    assert second.stdout is not None
    assert second.stdout.readline() == f"waiting for process {first.pid}, which compiles the attention kernel\n"
    slow.unlink()
    results = [process.communicate(timeout=120) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], results
    assert results[0][0].splitlines()[-1] == results[1][0].splitlines()[-1] == str(built_kernel())
    assert len(compiler.calls()) == 1


def test_a_killed_compilation_hangs_nobody(compiler: Compiler) -> None:
    slow = compiler.mark("slow")
    killed = begin()
    compiler.started(killed)
    killed.kill()
    killed.wait()
    killed.communicate()
    assert any(path.name.startswith(".build-") for path in compiler.cache.iterdir())
    slow.unlink()
    library = built_kernel()
    assert library.read_text() == "a library\n"
    assert {path.name for path in compiler.cache.rglob("*")} == {library.parent.name, LIBRARY, DIGEST}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_compilation_leaves_nothing(number: signal.Signals, compiler: Compiler) -> None:
    slow = compiler.mark("slow")
    program = begin()
    compiler.started(program)
    program.send_signal(number)
    _, errors = program.communicate(timeout=120)
    assert program.returncode == (143 if number == signal.SIGTERM else 130), errors
    assert list(compiler.cache.iterdir()) == []
    assert has_ended(compiler.calls()[0])
    slow.unlink()
    assert built_kernel().read_text() == "a library\n"


def test_a_compiler_that_fails(compiler: Compiler) -> None:
    broken = compiler.mark("broken")
    with pytest.raises(BackendError, match=r"error: expected ';'\): set native_attention = false"):
        built_kernel()
    assert list(compiler.cache.iterdir()) == []
    broken.unlink()
    built_kernel()


def test_a_compiler_that_does_not_run(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    (compiler.folder / "c++").write_text("#!/bin/sh\necho out of order; exit 1")
    with pytest.raises(BackendError, match=r"does not run \(out of order\)"):
        built_kernel()
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    with pytest.raises(BackendError, match="CXX names no-such-compiler -m64, which is not there"):
        built_kernel()
    monkeypatch.setenv("CXX", "'")
    with pytest.raises(BackendError, match="CXX is ', which is no command"):
        built_kernel()


def test_a_cache_that_cannot_be_written(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        built_kernel()
    assert compiler.calls() == []


def test_what_the_key_follows_from(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of another processor, compiler, source, PyTorch or Python is never taken for this one's."""
    info = tmp_path / "cpuinfo"
    info.write_text("model\t: 17\nflags\t: fma avx2 avx512f\n\nprocessor\t: 1\n")
    monkeypatch.setattr(kernel_build, "_CPU_INFO", info)
    plain = kernel_key(find_compiler())

    def other(target: Any, name: str, value: Any) -> str:
        with monkeypatch.context() as changed:
            changed.setattr(target, name, value)
            return kernel_key(find_compiler())

    source = tmp_path / "x.cpp"
    source.write_text("another source")
    others = [
        other(kernel_build, "SOURCE", source),
        other(kernel_build, "_FLAGS", kernel_build._FLAGS[:-1]),
        other(kernel_build.torch, "__version__", "2.99"),
        other(kernel_build.sysconfig, "get_config_var", lambda name: "cpython-399"),
        other(kernel_build.platform, "machine", lambda: "riscv64"),
    ]
    for text in ("model\t: 17\nflags\t: fma avx2\n", "model\t: 18\nflags\t: fma avx2 avx512f\n"):
        info.write_text(text)
        others.append(kernel_key(find_compiler()))
    info.write_text("model\t: 17\nflags\t: avx2 avx512f fma\ncpu MHz\t: 3000\n")
    assert kernel_key(find_compiler()) == plain
    compiler.version("stand-in 1.0\nother words")
    assert kernel_key(find_compiler()) == plain
    compiler.version("stand-in 1.1")
    others.append(kernel_key(find_compiler()))
    compiler.version("stand-in 1.0")
    monkeypatch.setenv("CXX", "c++ -m64")
    others.append(kernel_key(find_compiler()))
    assert len({plain, *others}) == len(others) + 1


def test_the_real_kernel_does_not_wait_for_a_lock_file_of_pytorch(tmp_path: Path) -> None:
    """A compilation of an older version that was killed has left one."""
    for folder in (tmp_path / MODULE, *(tmp_path / f"py{v}_cpu" / MODULE for v in ("310", "311", "312", "313", "314"))):
        folder.mkdir(parents=True)
        (folder / "lock").touch()
    code = (
        "from sparse_detr_deploy.training.native_attention import load_kernel\n"
        "print(sorted(name for name in dir(load_kernel()) if name[0] != '_'))"
    )
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout == "['backward', 'forward']\n", done.stderr
