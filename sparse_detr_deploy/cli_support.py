"""What the command-line programs share: errors as messages with an exit code, text for people on stderr."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from sparse_detr_deploy.errors import INTERRUPTED_EXIT_CODE, SparseDetrError

_Function = TypeVar("_Function", bound=Callable[..., Any])

EXIT_CODES = (
    "Exit codes: 0 done, 2 unusable input, 3 checkpoint, 4 artefact, 5 verification, 6 output cannot be written, "
    "7 runtime backend, 8 regression, 9 training diverged, 130 interrupted."
)


def reports_errors(function: _Function) -> _Function:
    """Turn an error of the toolkit into its message and exit code; anything else is a bug and keeps its traceback."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SparseDetrError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print("interrupted; nothing half-written is left", file=sys.stderr)
            sys.exit(INTERRUPTED_EXIT_CODE)

    return wrapper  # type: ignore[return-value]
