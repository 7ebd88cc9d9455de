"""The checkout of the original code that the user provides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.environment import git_commit
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.hashing import sha256_of

SOURCE = "kakaobrain/sparse-detr"
_NEEDED = ("models/deformable_detr.py", "models/ops/modules/ms_deform_attn.py", "util/misc.py")


def check_checkout(path: Path) -> None:
    """Raise :class:`InputError` where it is not a checkout of the original code."""
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path} is not a checkout of {SOURCE} ({missing[0]} is not there): "
            "clone it from GitHub and give its folder, or leave --original out"
        )


def identity_of(path: Path) -> dict[str, Any]:
    """Which code it is: ``commit`` (``None`` where it is no git checkout of its own) and ``sha256`` of its main files."""
    return {"commit": git_commit(path / _NEEDED[0]), "sha256": {name: sha256_of(path / name) for name in _NEEDED}}
