"""The rooms are where the list says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.rooms import Room, read_rooms
from tests.sources import ROOT


def test_every_room_has_its_sources_and_tests() -> None:
    rooms = read_rooms(ROOT)
    assert len(rooms) >= 7
    assert all(room.modules for room in rooms)


def test_a_list(tmp_path: Path) -> None:
    for name in ("a.py", "test_a_b.py", "test_a.py", "test_b.py"):
        (tmp_path / name).touch()
    path = tmp_path / "rooms.toml"
    path.write_text('[[room]]\nname = "r"\nmodules = {"a.py" = ["test_b.py", "-k=x", "test_a*.py", "test_?.py"]}\n')
    assert read_rooms(tmp_path, path) == [Room("r", {"a.py": ("-k=x", "test_b.py", "test_a.py", "test_a_b.py")})]


@pytest.mark.parametrize("modules", ['{"no.py" = ["test_a.py"]}', '{"a.py" = ["-k=x", "test_c*.py"]}'])
def test_a_list_of_what_is_not_there(modules: str, tmp_path: Path) -> None:
    for name in ("a.py", "test_a.py"):
        (tmp_path / name).touch()
    path = tmp_path / "rooms.toml"
    path.write_text(f'[[room]]\nname = "r"\nmodules = {modules}\n')
    with pytest.raises(ValueError, match="no such file, or no test of (no|a).py"):
        read_rooms(tmp_path, path)
