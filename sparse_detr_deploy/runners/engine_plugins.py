"""The plugin library that an engine needs, in the registry before the engine is deserialised."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from sparse_detr_deploy import __version__
from sparse_detr_deploy.engine_record import PluginRecord
from sparse_detr_deploy.errors import ArtefactError, BackendError
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.plugin_library import NAMED, locate_plugin_library
from sparse_detr_deploy.runners.engine_checks import EngineFile

_log = logging.getLogger(__name__)
_NAMESPACE = "sparse_detr"
_loading = threading.Lock()


def prepare_plugins(trt: Any, file: EngineFile, library: str | Path | None) -> str:
    """Load what ``file`` needs; say where it is from, for reports.

    Args:
        trt: the module ``tensorrt``.
        file: the engine.
        library: path of ``libsparse_detr_plugins.so``; default: where the toolkit finds it.

    Raises:
        ArtefactError: the flavour takes no plugins.
        BackendError: the library is missing, of another version, or does not load.
    """
    plugin = file.record.plugin
    if plugin is None:
        return "none"
    if file.record.flavour != "tensorrt":
        raise ArtefactError(f"{file.path} needs a plugin, and TensorRT-RTX takes none: build it again without plugins")
    if plugin.serialized:
        return "in the engine"
    with _loading:
        registry = trt.get_plugin_registry()
        if _is_registered(registry):
            return "registered before"
        path = _find(plugin, library)
        _compare(path, plugin)
        if registry.load_library(str(path)) is None or not _is_registered(registry):
            raise BackendError(
                f"TensorRT {trt.__version__} cannot load the plugin library {path}: it is not for this system or is "
                "damaged; build it here with sparse-detr-export plugins build"
            )
    return str(path)


def _is_registered(registry: Any) -> bool:
    return any(creator.plugin_namespace == _NAMESPACE for creator in registry.all_creators)


def _find(plugin: PluginRecord, library: str | Path | None) -> Path:
    if library is not None:
        path = Path(library).absolute()  # dlopen looks up a name without a slash elsewhere
        if not os.path.isfile(path):  # unlike Path.is_file, no error for a name that cannot be
            raise BackendError(f"the plugin library {path} does not exist")
        return path
    found = locate_plugin_library()
    if found is None:
        raise BackendError(
            f"the engine needs the plugin library {plugin.library} (version {plugin.version}), and there is none: build it "
            "with sparse-detr-export plugins build, name it in SPARSE_DETR_PLUGINS, or give plugin_library="
        )
    path, place = found
    if place != NAMED and plugin.version != __version__ and _sha256(path) != plugin.sha256:
        raise BackendError(
            f"the engine needs version {plugin.version} of the plugin library, and {path} is of {__version__}: install "
            "that version of sparse-detr-deploy, build the engine again, or give plugin_library="
        )
    return path


def _compare(path: Path, plugin: PluginRecord) -> None:
    """Another build of one version is usual (other architectures); it is told, since nobody else would."""
    if _sha256(path) != plugin.sha256:
        _log.warning(
            "%s is not the very library that the engine was built with (%s %s): if results differ, use that one",
            path,
            plugin.library,
            plugin.version,
        )


def _sha256(library: Path) -> str:
    try:
        return sha256_of(library)
    except OSError as error:
        raise BackendError(f"the plugin library {library} cannot be read ({error.strerror or error})") from None
