"""The one door to the runtimes that report to their makers what they do, unless they are asked not to.

Measured: ONNX Runtime 1.32 writes a device id into the user's cache and ``.ses`` into the folder for temporary files,
through a link that lies there. OpenVINO 2026.4 writes an id and statistics into ``~/intel`` and looks up a host.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

_ORT_VARIABLE = "ORT_DISABLE_TELEMETRY"
_OPENVINO_REPORTER = "openvino_telemetry"
_lock = threading.Lock()


def import_onnxruntime() -> Any:
    """The module ``onnxruntime``, without telemetry unless the user's ``ORT_DISABLE_TELEMETRY`` is 0.

    Raises:
        ImportError: it is not installed, or does not load.
    """
    if not os.environ.get(_ORT_VARIABLE):  # empty is how containers unset one, and would switch telemetry on
        os.environ[_ORT_VARIABLE] = "1"  # read at the import
    return importlib.import_module("onnxruntime")


def import_openvino() -> Any:
    """The module ``openvino``, without telemetry unless the user agreed to it (``opt_in_out --opt_in``).

    OpenVINO has no setting for it, but works without the package that reports: for its import that one is absent.

    Raises:
        ImportError: it is not installed, or does not load.
    """
    with _lock:
        if "openvino" in sys.modules or _agreed_to_openvino():
            return importlib.import_module("openvino")
        present = {_OPENVINO_REPORTER: sys.modules[_OPENVINO_REPORTER]} if _OPENVINO_REPORTER in sys.modules else {}
        sys.modules[_OPENVINO_REPORTER] = None  # type: ignore[assignment]  # now its import fails
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[_OPENVINO_REPORTER]
            sys.modules.update(present)


def _agreed_to_openvino() -> bool:
    """Whether the file in which that package keeps the user's answer says yes."""
    try:
        if sys.platform == "win32":
            file = Path(os.path.expandvars("$LOCALAPPDATA")) / "Intel Corporation" / _OPENVINO_REPORTER
        else:
            file = Path.home() / "intel" / _OPENVINO_REPORTER
        return file.is_file() and file.read_bytes()[:2].strip() == b"1"
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return False
