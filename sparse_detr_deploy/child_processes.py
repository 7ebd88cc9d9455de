"""Starting Python processes that import what this one imports, and nothing of the working directory.

``python -m`` and ``python -c`` put the working directory first in the search path: a ``json.py`` that happens to lie there
runs in the child in the place of the standard library's, and a checkout of another version in the place of this one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

# the search path begins with the working directory until the second line; sys is built in, so its import is safe
_START = """import sys
sys.path[:] = {path}
import runpy
runpy.run_module({module}, run_name="__main__", alter_sys=True)
"""
_FLAGS = (
    ("isolated", "-I"),
    ("ignore_environment", "-E"),
    ("no_user_site", "-s"),
    ("no_site", "-S"),
    ("optimize", "-O"),
)
_SAFE_PATH = "PYTHONSAFEPATH"  # known to Python from 3.11 on
_lock = threading.Lock()
_users = 0  # how many have spawning() open: the first makes the change, the last undoes it
_change = contextlib.ExitStack()


def child_command(module: str, *arguments: str) -> list[str]:
    """The command that runs ``module`` as ``python -m`` does, with the search path of this process."""
    flags = [flag for name, flag in _FLAGS for _ in range(int(getattr(sys.flags, name)))]
    code = _START.format(path=ascii(sys.path), module=ascii(module))
    return [sys.executable, *flags, "-c", code, *arguments]


@contextlib.contextmanager
def spawning() -> Iterator[None]:
    """While this is open, processes that :mod:`multiprocessing` spawns import nothing of the working directory.

    They get this process's search path from multiprocessing, but its own modules are imported before that. Several
    threads may have it open at once.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            if sys.version_info >= (3, 11):
                _change.enter_context(_environment(_SAFE_PATH, "1"))
            elif os.name == "posix":
                _change.enter_context(_spawned_without_working_directory())
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _change.close()


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _spawned_without_working_directory() -> Iterator[None]:
    """Python 3.10 has no option for it: remove the entry at the start of the programs that multiprocessing runs."""
    import multiprocessing.util

    util: Any = multiprocessing.util
    original = util.spawnv_passfds

    def spawn(path: Any, arguments: Sequence[Any], descriptors: Sequence[int]) -> Any:
        changed = list(arguments)
        if "-c" in changed and not sys.flags.isolated:
            place = changed.index("-c") + 1
            changed[place] = f"import sys; del sys.path[0]; {changed[place]}"
        return original(path, changed, descriptors)

    util.spawnv_passfds = spawn
    try:
        yield
    finally:
        util.spawnv_passfds = original
