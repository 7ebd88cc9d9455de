"""Options of the backends: what is none is refused before anything is read or built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from sparse_detr_deploy.arguments import check_whole
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.short_repr import short_repr

MOST_THREADS = 1024
_SHORT_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def check_options(backend: str, runner: type, options: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` where the constructor of ``runner`` takes no such option."""
    known = [name for name in inspect.signature(runner).parameters if name != "path"]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(f"the backend {backend} has no option {', '.join(unknown)}: it takes {', '.join(known)}")


def check_num_threads(num_threads: int | None) -> int | None:
    """Return ``num_threads`` if it is a count of threads or ``None``, else raise :class:`InputError`."""
    if num_threads is None:
        return None
    count = check_whole(num_threads, "num_threads")
    if not 1 <= count <= MOST_THREADS:
        raise InputError(f"num_threads is {short_repr(num_threads)}, but 1 to {MOST_THREADS} are possible")
    return count


def provider_names(providers: str | Sequence[str]) -> list[str]:
    """ONNX Runtime's names of ``providers``, which may be short; :class:`InputError` where they are no names."""
    given = [providers] if isinstance(providers, str) else providers
    if not isinstance(given, Sequence) or not given or not all(isinstance(name, str) for name in given):
        raise InputError(
            f"providers is {short_repr(providers)}, but a name or a list of names is needed, such as 'cpu' or ['cuda', 'cpu'] "
            "(without options of theirs)"
        )
    return [_SHORT_NAMES.get(name, name) for name in given]
