"""The library in the real plugin registries of TensorRT lean, from Python as users load it.

Each test is a child process: a process holds one TensorRT. A ``Runtime`` is never made, it needs a driver.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.conftest import Build
from tests.plugins.packages import LEAN_VERSIONS, lean_runtime

pytestmark = pytest.mark.network
PRELUDE = """
import json, sys
import numpy as np
import tensorrt_lean as trt

registry = trt.get_plugin_registry()
assert trt.__version__ == sys.argv[1], trt.__version__
library = sys.argv[2]

def listed():
    return sorted(c.name for c in registry.all_creators if c.plugin_namespace == "sparse_detr")

def create(name, **fields):
    creator = registry.get_creator(name, "1", "sparse_detr")
    collection = trt.PluginFieldCollection(
        [trt.PluginField(k, np.array(v, np.int64), trt.PluginFieldType.INT64) for k, v in fields.items()]
    )
    return creator.create_plugin("layer", collection, trt.TensorRTPhase.BUILD)
"""


def run(version: str, library: Path, body: str) -> tuple[object, str]:
    """What the child prints as JSON, and its stderr."""
    environment = {**os.environ, "PYTHONPATH": str(lean_runtime(version))}
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + body, version, str(library)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


@pytest.mark.parametrize("version", LEAN_VERSIONS)
def test_load_list_and_deregister(build: Build, version: str) -> None:
    seen, _ = run(
        version,
        build.library,
        """
steps = [listed()]
handle = registry.load_library(library)
steps.append(listed())
registry.deregister_library(handle)
steps.append(listed())
again = registry.load_library(library)
steps.append(listed())
print(json.dumps([steps, handle is not None, again is not None]))
""",
    )
    ours = ["MSDeformAttn", "SelectTokens"]
    assert seen == [[[], ours, [], ours], True, True]


@pytest.mark.parametrize("version", LEAN_VERSIONS)
def test_create_and_refuse(build: Build, version: str) -> None:
    """A refused attribute gives no plugin and one error, in TensorRT's log or on stderr, and the process lives."""
    seen, errors = run(
        version,
        build.library,
        """
registry.load_library(library)
made = [create("MSDeformAttn"), create("MSDeformAttn", level_shapes=[3, 4]), create("SelectTokens", max_keep=[7])]
refused = []
for name, fields in (("SelectTokens", {}), ("MSDeformAttn", {"level_shapes": [3]}), ("MSDeformAttn", {"typo": [3]})):
    try:
        refused.append(create(name, **fields) is None)
    except Exception as error:
        refused.append(True)
print(json.dumps([[plugin is not None for plugin in made], refused]))
""",
    )
    assert seen == [[True] * 3, [True] * 3]
    for message in ("how many tokens to keep must be known", "level_shapes must be", "unknown attribute typo"):
        assert message in errors


@pytest.mark.parametrize("version", LEAN_VERSIONS)
def test_a_bad_library_gives_none(build: Build, version: str, tmp_path: Path) -> None:
    text = tmp_path / "library.so"
    text.write_text("not a library")
    seen, _ = run(
        version,
        text,
        """
results = [registry.load_library(path) is None for path in (library, "/no/such/library.so")]
print(json.dumps([results, listed()]))
""",
    )
    assert seen == [[True, True], []]
