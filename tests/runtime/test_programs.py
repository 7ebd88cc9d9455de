"""In an installation for production the programs say what they need."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["export", "bench", "train"])
def test_what_is_missing_is_named_with_its_extra(name: str) -> None:
    code = f"import sys; sys.modules['click'] = None\nfrom sparse_detr_deploy.programs import {name}\n{name}()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 7
    assert found.stderr == f"error: sparse-detr-{name} needs click: pip install 'sparse-detr-deploy[{name}]'\n"


@pytest.mark.parametrize("name", ["export", "bench", "train"])
def test_the_programs_start(name: str) -> None:
    code = f"import sys; sys.argv = ['x', '--help']\nfrom sparse_detr_deploy.programs import {name}\n{name}()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "Exit codes" in found.stdout
