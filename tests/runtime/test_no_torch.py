"""Production imports no torch, and needs none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import Export

BLOCK = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "onnxscript", "safetensors", "click", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_imports_nothing_heavy() -> None:
    code = "import sys, sparse_detr_deploy; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = run(code)
    for name in ("torch", "onnx", "onnxruntime", "openvino", "click", "rich", "supervision", "matplotlib"):
        assert f"'{name}'" not in loaded


def test_detecting_needs_no_torch(export_tiny: Export) -> None:
    code = f"""{BLOCK}
import numpy as np
from sparse_detr_deploy import Detector
with Detector.load({str(export_tiny().path)!r}) as detector:
    detector.warmup(1)
    found = detector([np.full((50, 70, 3), 90, dtype=np.uint8)])[0]
    print(len(found), len(found.to_coco(1)), found.draw(np.zeros((50, 70, 3), dtype=np.uint8)).shape)
assert not any(name.split(".")[0] in ("torch", "onnx") for name in sys.modules), "torch or onnx was imported"
"""
    assert run(code).split() == ["20", "20", "(50,", "70,", "3)"]


def test_detecting_imports_no_torch_that_is_there(export_tiny: Export) -> None:
    code = f"""
import sys, numpy as np
from sparse_detr_deploy import Detector
for backend in ("onnxruntime", "openvino"):
    with Detector.load({str(export_tiny(inline_functions=True).path)!r}, backend=backend) as detector:
        detector(np.zeros((50, 70, 3), dtype=np.uint8))
print("torch" in sys.modules)
"""
    assert run(code).strip() == "False"


def test_the_exporter_says_what_is_missing(tmp_path: Path) -> None:
    code = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
sys.modules["torch"] = None
from sparse_detr_deploy.export.cli import main
main(["--architecture", "r50", "--random-weights", "0", "--output", sys.argv[1]])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 7
    assert "torch is not installed: pip install 'sparse-detr-deploy[export]'" in done.stderr
    assert "Traceback" not in done.stderr
