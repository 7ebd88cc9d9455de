"""Entry points of the command-line programs: a package that an extra would bring is asked for by that extra's name."""

from __future__ import annotations

import importlib
import sys

from sparse_detr_deploy.errors import BackendError


def export() -> None:
    """``sparse-detr-export``."""
    _run("sparse_detr_deploy.export.cli", "sparse-detr-export", "export")


def bench() -> None:
    """``sparse-detr-bench``."""
    _run("sparse_detr_deploy.benchmarks.cli", "sparse-detr-bench", "bench")


def train() -> None:
    """``sparse-detr-train``."""
    _run("sparse_detr_deploy.training.cli", "sparse-detr-train", "train")


def _run(module: str, program: str, extra: str) -> None:
    try:
        main = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        if (
            error.name is None or error.name.partition(".")[0] == __package__
        ):  # an installation that lacks files of ours
            raise
        print(f"error: {program} needs {error.name}: pip install 'sparse-detr-deploy[{extra}]'", file=sys.stderr)
        sys.exit(BackendError.exit_code)
    main()
