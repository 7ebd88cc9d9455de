"""Finding the TensorRT plugin library, ``libsparse_detr_plugins.so``: named, beside the package, or built into the cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sparse_detr_deploy.build_folder import user_cache
from sparse_detr_deploy.errors import BackendError

ENVIRONMENT = "SPARSE_DETR_PLUGINS"
LIBRARY_NAME = "libsparse_detr_plugins.so"
# of plugins/: what the library is made from, without its tests and without the kernels for ONNX Runtime
SOURCE_PATTERNS = ("CMakeLists.txt", "exports.map", "cmake/*.cmake", "kernels/*", "tensorrt/*")
NAMED, BESIDE, CACHED = "environment variable", "beside the package", "cache"


def find_plugin_library() -> Path | None:
    """The library to load into TensorRT, or ``None`` if there is none.

    The environment variable ``SPARSE_DETR_PLUGINS`` names one; else it lies beside the package; else in the user's
    cache, where ``sparse-detr-export plugins build`` puts it: of several that were built from these sources for
    different GPUs, the last one.

    Raises:
        BackendError: the environment variable names a file that is not there.
    """
    found = locate_plugin_library()
    return None if found is None else found[0]


def locate_plugin_library() -> tuple[Path, str] | None:
    """:func:`find_plugin_library` with the place where it was found, for reports."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        if not os.path.isfile(named):  # unlike Path.is_file, no error for a name too long
            raise BackendError(
                f"the environment variable {ENVIRONMENT} names {named}, which is not there: name {LIBRARY_NAME}, "
                "or unset it to use the one that 'sparse-detr-export plugins build' makes"
            )
        return Path(named).absolute(), NAMED  # without a slash the loader would look in the system's folders
    beside = Path(__file__).with_name(LIBRARY_NAME)
    if beside.is_file():
        return beside, BESIDE
    key = source_key()
    try:
        folders = [] if key is None else sorted(cache_folder().glob(f"{key}-*"))
    except OSError:  # a user without a home, as in containers, has no cache
        folders = []
    built = [library for folder in folders if (library := folder / LIBRARY_NAME).is_file()]
    return (max(built, key=lambda library: library.stat().st_mtime_ns), CACHED) if built else None


def cache_folder() -> Path:
    """Where built libraries are kept, a folder each: ``<toolkit version>-<hash of the sources>-<architectures>``.

    Raises:
        OSError: there is no home folder to have a cache in.
    """
    return user_cache() / "plugins"


def plugin_sources() -> Path | None:
    """Folder of the library's CMake project: part of an installed package, or of the checkout; ``None`` if neither."""
    package = Path(__file__).parent
    for folder in (package / "plugins", package.parent / "plugins"):
        if (folder / "CMakeLists.txt").is_file() and (folder / "exports.map").is_file():
            return folder
    return None


def source_files(sources: Path) -> list[Path]:
    """The files that the library is made from, in a fixed order."""
    return sorted(path for pattern in SOURCE_PATTERNS for path in sources.glob(pattern) if path.is_file())


def source_key() -> str | None:
    """What a built library must agree with: the toolkit's version and its sources; ``None`` without sources."""
    from sparse_detr_deploy import __version__  # here, so that the package may import this module while it starts

    sources = plugin_sources()
    if sources is None:
        return None
    digest = hashlib.sha256()
    for path in source_files(sources):
        digest.update(f"{path.relative_to(sources).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{__version__}-{digest.hexdigest()[:12]}"
