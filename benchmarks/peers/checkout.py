"""The checkout of the original code that the user provides."""

from __future__ import annotations

from pathlib import Path

from sparse_detr_deploy.benchmarks.environment import git_commit
from sparse_detr_deploy.errors import InputError

SOURCE = "kakaobrain/sparse-detr"
_NEEDED = ("models/deformable_detr.py", "models/ops/modules/ms_deform_attn.py", "util/misc.py")


def check_checkout(path: Path) -> Path:
    """Return ``path``; raise :class:`InputError` where it is not a checkout of the original code."""
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path} is not a checkout of {SOURCE} ({missing[0]} is not there): "
            "clone it from GitHub and give its folder, or leave --original out"
        )
    return path


def commit_of(path: Path) -> str | None:
    """Commit of the checkout; ``None`` where it is no git checkout of its own."""
    return git_commit(path / _NEEDED[0])
