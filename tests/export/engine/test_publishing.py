"""An engine and its sidecar are replaced together, and a good pair is never lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export.engine.publishing import publish_pair
from tests.failing_calls import fail_once

NAMES = ("x.engine", "x.engine.json")


def write(folder: Path, content: str) -> None:
    with publish_pair(folder / NAMES[0], overwrite=True) as (engine, sidecar):
        engine.write_text(content)
        sidecar.write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_pair_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "old")
    write(tmp_path, "new")
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("before", [(), NAMES[:1], NAMES[1:], NAMES], ids=["none", "engine", "sidecar", "pair"])
@pytest.mark.parametrize("call", [("replace", 0), ("replace", 1), ("rename", 0), ("rename", 1)], ids=str)
def test_where_one_cannot_be_renamed_all_is_as_before(
    call: tuple[str, int],
    before: tuple[str, ...],
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in before:
        (tmp_path / name).write_text("old")
    fail_once(monkeypatch, os, *call, error)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError):
        write(tmp_path, "new")
    assert contents(tmp_path) == dict.fromkeys(before, "old")
