"""Building the plugin library with CMake into the user's cache."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from sparse_detr_deploy.build_folder import build_folder
from sparse_detr_deploy.errors import BackendError, InputError, OutputError
from sparse_detr_deploy.external_tools import run_tool
from sparse_detr_deploy.plugin_library import LIBRARY_NAME, cache_folder, plugin_sources, source_key

ALL = "all"
_SHOWN_LINES = 15


def parse_architectures(text: str | None) -> tuple[str, ...]:
    """``89,120`` (or ``sm89,sm120``) gives ``("89", "120")``; ``None`` gives ``()``, which means all that nvcc knows."""
    if text is None:
        return ()
    numbers = [part.strip().removeprefix("sm").removeprefix("_") for part in text.split(",")]
    for number in numbers:
        if not re.fullmatch(r"\d{2,3}", number) or int(number) < 75:
            raise InputError(
                f"the architectures {text!r} are not compute capabilities of 75 (Turing) or newer, such as 89,120"
            )
    return tuple(sorted(set(numbers), key=int))


def build_plugins(
    architectures: tuple[str, ...] = (),
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> Path:
    """Build the library into the cache, or give the one that is there; it appears whole or not at all.

    Two processes that want the same one build it once: the second waits for the first.

    Args:
        architectures: compute capabilities, as ``89``; default: all from 75 on that the compiler knows.
        overwrite: build again what is there.
        progress: told what is done.

    Raises:
        BackendError: the sources or a tool are missing, or the build fails; the message has the compiler's last lines.
        OutputError: the cache cannot be written.
    """
    sources, key = plugin_sources(), source_key()
    if sources is None or key is None:
        raise BackendError(
            "the sources of the plugins are missing from this installation: install sparse-detr-deploy again"
        )
    name = f"{key}-{'+'.join(architectures) or ALL}"
    try:
        folder = cache_folder() / name
        library = folder / LIBRARY_NAME
        if _is_there(library) and not overwrite:
            return library
        nvcc = _tools()

        def waiting(holder: str) -> None:
            progress(f"waiting for {holder}, which builds the same library")

        with build_folder(cache_folder(), name, waiting) as temporary:
            if overwrite or not _is_there(library):  # whoever was waited for has built it
                built = _build(sources, temporary, nvcc, architectures, progress)
                folder.mkdir(exist_ok=True)
                os.replace(built, library)
    except OSError as error:
        raise OutputError(
            f"the plugin library cannot be written to the cache ({error.filename or name}: {error.strerror or error}): "
            "name another one by XDG_CACHE_HOME"
        ) from None
    return library


def _is_there(library: Path) -> bool:
    """Whether it is; the last one that was asked for is the one that is found."""
    if not library.is_file():
        return False
    library.touch()
    return True


def find_nvcc() -> str | None:
    """The CUDA compiler: on the path, or where CUDA is installed."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")


def _tools() -> str:
    nvcc = find_nvcc()
    missing = [
        name for name, found in (("nvcc (CUDA 12 or newer)", nvcc), ("cmake", shutil.which("cmake"))) if not found
    ]
    if nvcc is None or missing:
        raise BackendError(
            f"building the plugins needs {' and '.join(missing)}: install it and have it on the PATH "
            "(pip install cmake gives CMake), or build on a machine that has it and name the library by SPARSE_DETR_PLUGINS"
        )
    return nvcc


def _build(
    sources: Path, folder: Path, nvcc: str, architectures: tuple[str, ...], progress: Callable[[str], None]
) -> Path:
    tree = folder / "tree"
    options = [f"-DCMAKE_CUDA_COMPILER={nvcc}", f"-DPython3_EXECUTABLE={sys.executable}", "-DSPARSE_DETR_TESTS=OFF"]
    if architectures:
        *older, newest = architectures
        real = [f"{number}-real" for number in older]
        options.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join([*real, newest])}")  # PTX for the newest
    if shutil.which("ninja"):
        options += ["-G", "Ninja"]
    progress("configuring the plugin library")
    mend = "TensorRT's headers: set TENSORRT_ROOT, or pip install --no-deps kernel-lens==2.0.1"
    _run(["cmake", "-S", str(sources), "-B", str(tree), *options], f"CMake cannot configure the plugins ({mend})")
    progress(f"compiling the plugin library for {', '.join(architectures) or 'all architectures'}")
    _run(["cmake", "--build", str(tree), "--parallel", str(os.cpu_count() or 1)], "the plugins do not compile")
    return tree / LIBRARY_NAME


def _run(command: list[str], failure: str) -> None:
    """Run a tool; interrupted, it ends with the compilers that it has started."""
    status, output = run_tool(command)
    if status != 0:
        lines = [line for line in output.splitlines() if line.strip()]
        raise BackendError(f"{failure}:\n" + "\n".join(lines[-_SHOWN_LINES:]))
