"""A copy of the tree to plant faults in, with a Python of its own that imports nothing from the checkout."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.mutation.toml_file import read_toml

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "venv", "build", "dist", "runs", "*.egg-info", "__pycache__", ".hypothesis", ".*_cache", "*.part"
)


class TreeCopy:
    """The files of ``root`` in ``folder``, which is made."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(root, folder, ignore=_LEFT_OUT, symlinks=True)
        self._link_packages()
        self.python = self._make_python()

    @contextlib.contextmanager
    def planted(self, sources: Mapping[str, str]) -> Iterator[None]:
        """Other contents of files for a while."""
        before = {file: (self.folder / file).read_bytes() for file in sources}
        try:
            for file, code in sources.items():
                self._write(file, code.encode())
            yield
        finally:
            for file, content in before.items():
                self._write(file, content)

    def build_native(self) -> None:
        """Build the native parts in place. Raises ``RuntimeError`` where that fails."""
        done = subprocess.run(
            [self.python, "setup.py", "--quiet", "build_ext", "--inplace"],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the native parts do not build:\n{done.stderr[-2000:]}")

    def _write(self, file: str, content: bytes) -> None:
        path = self.folder / file
        path.write_bytes(content)
        if path.suffix == ".py":  # byte code is told from its source by the size and the second: not enough here
            Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def _link_packages(self) -> None:
        """Packages whose folder does not lie where their name says are found by links."""
        setup = read_toml(self.folder / "pyproject.toml").get("tool", {}).get("setuptools", {})
        for name, place in setup.get("package-dir", {}).items():
            at = self.folder.joinpath(*name.split("."))
            if not at.exists():
                at.symlink_to(self.folder / place)

    def _make_python(self) -> Path:
        """A virtual environment with the packages of this one, but for what finds the checkout."""
        home = self.folder / ".venv"
        venv.create(home, symlinks=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
        shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        # of path files there only the first level is read, so a finder of an editable installation does not run
        (packages / "tree_copy.pth").write_text("\n".join([str(self.folder), *shared]) + "\n")
        return home / "bin" / "python"
