"""Compiling the attention kernel of the training into the user's cache: once for a machine, compiler and PyTorch."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import torch

from sparse_detr_deploy.build_folder import build_folder, user_cache
from sparse_detr_deploy.errors import BackendError, OutputError
from sparse_detr_deploy.external_tools import run_tool
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.regular_files import read_bytes

MODULE = "sparse_detr_training_attention"
SOURCE = Path(__file__).parent / "csrc" / "ms_deform_attn.cpp"
LIBRARY, DIGEST = f"{MODULE}.so", f"{MODULE}.sha256"
REMEDY = "set native_attention = false to train without the kernel"
_FLAGS = (
    *("-O3", "-march=native", "-fno-math-errno", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"),
    *("-std=c++20", "-fPIC", "-shared", *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ())),
)
_CPU_INFO = Path("/proc/cpuinfo")
# what -march=native and its tuning follow from, on x86 and on ARM
_CPU_FIELDS = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "CPU variant", "Features")
_log = logging.getLogger(__name__)


def built_kernel() -> Path:
    """The compiled kernel of this machine; compiles it where the cache has none, or a damaged one.

    Processes that need it at the same time compile it once.

    Raises:
        BackendError: no compiler, or it failed.
        OutputError: the cache cannot be written.
    """
    compiler = find_compiler()
    name = kernel_key(compiler)
    try:
        cache = user_cache() / "training"
        folder = cache / name
        if not is_whole(folder):
            with build_folder(cache, name, _tell_waiting) as temporary:
                if not is_whole(folder):  # whoever was waited for has built it
                    _compile(compiler, temporary)
                    folder.mkdir(exist_ok=True)
                    # in this order: between the two, or in place of a damaged one, they do not agree
                    for file in (LIBRARY, DIGEST):
                        os.replace(temporary / file, folder / file)
    except OSError as error:
        raise OutputError(
            f"the attention kernel cannot be written to the cache ({error.filename or 'it'}: "
            f"{error.strerror or error}): name another one by XDG_CACHE_HOME, or {REMEDY}"
        ) from None
    return folder / LIBRARY


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` has a library that is as it was built."""
    try:
        return read_bytes(folder / DIGEST, 64) == sha256_of(folder / LIBRARY).encode()
    except OSError:
        return False


def find_compiler() -> tuple[str, ...]:
    """The C++ compiler's command: ``CXX``, as for PyTorch's extensions, else one that is on the path.

    Raises:
        BackendError: there is none.
    """
    named = os.environ.get("CXX")
    try:
        command = tuple(shlex.split(named)) if named else ()
    except ValueError as error:
        raise BackendError(f"CXX is {named}, which is no command ({error}): {REMEDY}") from None
    found = (
        shutil.which(command[0]) if command else next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    )
    if found is None:
        missing = f"CXX names {named}, which is not there" if named else "there is none on the PATH"
        raise BackendError(f"the attention kernel needs a C++ compiler (g++ or clang++), but {missing}: {REMEDY}")
    return (found, *command[1:])


def kernel_key(compiler: tuple[str, ...]) -> str:
    """What a compiled kernel must agree with, as a name: source, compiler, flags, PyTorch, Python and processor."""
    version = _output([*compiler, "--version"], f"the C++ compiler {shlex.join(compiler)} does not run")
    parts = {
        "source": hashlib.sha256(SOURCE.read_bytes()).hexdigest(),
        "compiler": [os.path.realpath(compiler[0]), *compiler[1:], (version.splitlines() or [""])[0]],
        "flags": _FLAGS,
        "torch": [str(torch.__version__), str(torch.version.git_version), torch.compiled_with_cxx11_abi()],
        "python": [sysconfig.get_config_var("SOABI"), sys.version_info[:2]],
        "processor": processor(),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def processor() -> list[str]:
    """Model and features of this machine's processor, in a fixed order."""
    found = [platform.system(), platform.machine(), platform.processor()]
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        status, brand = run_tool(["sysctl", "-n", "machdep.cpu.brand_string"]) if shutil.which("sysctl") else (1, "")
        return [*found, brand.strip()] if status == 0 else found
    fields = {name.strip(): value for name, _, value in (line.partition(":") for line in lines)}
    return [*found, *(" ".join(sorted(fields.get(field, "").split())) for field in _CPU_FIELDS)]


def _compile(compiler: tuple[str, ...], folder: Path) -> None:
    _log.info("compiling the attention kernel (once for this machine; about half a minute)")
    try:
        from torch.utils import cpp_extension
    except ImportError as error:  # it needs setuptools
        raise BackendError(f"compiling the attention kernel needs {error.name}: pip install it, or {REMEDY}") from None
    library = folder / LIBRARY
    includes = [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]
    command = [
        *compiler,
        *_FLAGS,
        *(f"-DTORCH_EXTENSION_NAME={MODULE}", "-DTORCH_API_INCLUDE_EXTENSION_H"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(part for path in includes for part in ("-isystem", path)),
        *(str(SOURCE), "-o", str(library)),
        *(f"-L{path}" for path in cpp_extension.library_paths()),
        *("-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"),
    ]
    _output(command, "the attention kernel cannot be compiled")
    (folder / DIGEST).write_text(sha256_of(library), encoding="ascii")


def _output(command: Sequence[str], failure: str) -> str:
    try:
        status, output = run_tool(command)
    except OSError as error:
        raise BackendError(f"{failure} ({error.strerror or error}): {REMEDY}") from None
    if status != 0:
        raise BackendError(f"{failure} ({_told(output)}): {REMEDY}")
    return output


def _told(output: str) -> str:
    """The line of a compiler's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else "it says nothing")


def _tell_waiting(holder: str) -> None:
    _log.info("waiting for %s, which compiles the attention kernel", holder)
