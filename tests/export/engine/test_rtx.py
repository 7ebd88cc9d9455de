"""Real TensorRT-RTX engines, built without a GPU. That they run is for a GPU to tell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from sparse_detr_deploy.engine_record import read_sidecar, sidecar_path
from sparse_detr_deploy.export.engine.preparation import plugin_graph
from sparse_detr_deploy.export.graph import export_onnx
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name
from sparse_detr_deploy.hashing import sha256_of
from tests.conftest import Export
from tests.export.engine.edited_files import resealed
from tests.export.engine.rtx import VERSION, build, export_program, results, rtx_environment, run_rtx

pytestmark = pytest.mark.network
FORMS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "dynamic, batch 1:1:4": {"dynamic_rho": True, "batch": (1, 1, 4)},
    "padded": {"padded": True},
    "padded dynamic": {"padded": True, "dynamic_rho": True},
    "fp16": {"precision": "fp16"},
}


def check(engine: dict[str, Any], result: ExportResult) -> None:
    """Files and sidecar agree with each other and with the artefact."""
    path = Path(engine["path"])
    metadata, record = read_sidecar(path)
    assert metadata == result.metadata
    assert path.stat().st_size == engine["bytes"] > 1_000_000
    assert record.sha256 == sha256_of(path)
    assert record.onnx_sha256 == result.sha256
    assert (record.flavour, record.version, record.plugin) == ("tensorrt-rtx", VERSION, None)
    assert record.attention == "standard ops"
    assert record.precision == ("fp16" if metadata.precision == "float16" else "fp32")
    kind = "HALF" if record.precision == "fp16" else "FLOAT"
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(result.path).graph.node)
    assert record.products["CONVOLUTION"] == {kind: convolutions}
    assert record.products["MATRIX_MULTIPLY"][kind] > 30
    assert record.precision == "fp16" or "HALF" not in record.layer_types


@pytest.mark.parametrize("form", FORMS)
def test_engines(form: str, export_tiny: Export, tmp_path: Path) -> None:
    """Standard targets, proven precision, sidecar; no file but the two."""
    result = export_tiny(**FORMS[form])
    engine = build(result.path, tmp_path)
    check(engine, result)
    assert engine["targets"] == ["sm89", "sm120"]
    assert engine["selection"] == "top-k"
    path = Path(engine["path"])
    assert sorted(tmp_path.iterdir()) == [path, sidecar_path(path)]


def test_a_dense_engine_for_one_gpu(dense_result: ExportResult, tmp_path: Path) -> None:
    engine = build(dense_result.path, tmp_path, "--target", "sm86", "--workspace", "256")
    check(engine, dense_result)
    assert (engine["targets"], engine["selection"], engine["workspace_mib"]) == (["sm86"], "none", 256)


def test_the_same_engine_twice(export_tiny: Export, tmp_path: Path) -> None:
    result = export_tiny()
    first, second = (build(result.path, tmp_path / name, "--target", "sm89") for name in ("a", "b"))
    assert first["sha256"] == second["sha256"]


SHAPES = """
import sys, json, threading
import onnx, tensorrt_rtx as trt
from sparse_detr_deploy.export.engine.builder import EngineBuilder
from sparse_detr_deploy.export.engine.preparation import standard_graph
from sparse_detr_deploy.export.engine.spec import EngineSpec
from sparse_detr_deploy.onnx_metadata import read_metadata
metadata = read_metadata(sys.argv[1])
builder = EngineBuilder(trt, EngineSpec("tensorrt-rtx"))
with builder._parsed(standard_graph(onnx.load(sys.argv[1]), metadata), "x") as network:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    profile = builder._profile(network, metadata)
    ranges = [[list(shape) for shape in profile.get_shape("images")], profile.get_shape_input("num_keep")]
    print("RESULT", json.dumps([{t.name: [t.dtype.name, list(t.shape)] for t in tensors}, ranges]))
"""


def test_inputs_outputs_and_profile(export_tiny: Export) -> None:
    """The contract with the runner: names, types, and the ranges that the profile promises."""
    result = export_tiny(dynamic_rho=True, batch=(1, 1, 4))
    finished = run_rtx(SHAPES, result.path)
    assert finished.returncode == 0, finished.stderr
    ((tensors, ranges),) = results(finished.stdout)
    assert tensors["images"] == ["FLOAT", [-1, 3, 96, 128]]
    assert tensors["num_keep"] == ["INT64", [1]]
    assert [tensors[name][0] for name in ("boxes", "scores", "labels")] == ["FLOAT", "FLOAT", "INT32"]
    assert [tensors[name][1][1:] for name in ("boxes", "scores", "labels")] == [[20, 4], [20], [20]]
    images = [[batch, 3, 96, 128] for batch in (1, 1, 4)]
    assert ranges == [images, [[1], [result.metadata.num_keep()], [result.metadata.token_count]]]


PLUGINS = """
import sys, json
import tensorrt_rtx as trt

class Plugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild):
    def __init__(self, name):
        trt.IPluginV3.__init__(self)
        trt.IPluginV3OneCore.__init__(self)
        trt.IPluginV3OneBuild.__init__(self)
        self.plugin_namespace, self.plugin_name, self.plugin_version, self.num_outputs = "sparse_detr", name, "1", 1
    def get_capability_interface(self, kind): return self

class Creator(trt.IPluginCreatorV3One):
    def __init__(self, name, fields):
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_namespace, self.plugin_version = name, "sparse_detr", "1"
        self.field_names = trt.PluginFieldCollection([trt.PluginField(f, b"", trt.PluginFieldType.INT64) for f in fields])
    def create_plugin(self, layer, fields, phase):
        values = {}
        for f in fields:
            text = f.type == trt.PluginFieldType.CHAR
            values[f.name] = bytes(f.data).decode().rstrip(chr(0)) if text else [int(v) for v in f.data]
        print("RESULT", json.dumps([self.name, layer, values, str(phase)]), flush=True)
        return Plugin(self.name)

if sys.argv[2] == "registered":
    registry = trt.get_plugin_registry()
    creators = [Creator("MSDeformAttn", ["level_shapes"]), Creator("SelectTokens", ["max_keep", "tensorrt_plugin_shape_input_indices"])]
    for creator in creators: assert registry.register_creator(creator, "sparse_detr")

logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
parsed = parser.parse(open(sys.argv[1], "rb").read())
kinds = [network.get_layer(i).type.name for i in range(network.num_layers)]
print("RESULT", json.dumps([parsed, kinds.count("PLUGIN_V3"), kinds.count("MATRIX_MULTIPLY")]))
"""


@pytest.mark.parametrize("form", ["fixed", "dynamic, batch 1:1:4", "dense"])
@pytest.mark.parametrize("keep_bodies", [True, False], ids=["with bodies", "without bodies"])
def test_the_parser_finds_the_plugins(
    form: str, keep_bodies: bool, export_tiny: Export, dense_result: ExportResult, tmp_path: Path
) -> None:
    """The file for full TensorRT, by the parser of TensorRT-RTX, which ends the process when a plugin is added.

    Up to there it does what the other does: it looks the creator up and hands over the attributes. The first plugin is
    the selection, in a dense graph the attention.
    """
    result = dense_result if form == "dense" else export_tiny(**FORMS[form])
    path = tmp_path / "plugins.onnx"
    path.write_bytes(plugin_graph(onnx.load(result.path), result.metadata, keep_bodies).SerializeToString())
    finished = run_rtx(PLUGINS, path, "registered")
    found = results(finished.stdout)
    assert found, finished.stderr
    op_type, layer, fields, phase = found[0]
    assert layer.split("_")[0] == op_type
    assert "BUILD" in phase
    assert fields.pop("plugin_namespace", "sparse_detr") == "sparse_detr"
    assert fields.pop("plugin_version", "1") == "1"
    assert op_type == ("MSDeformAttn" if form == "dense" else "SelectTokens")
    if op_type == "SelectTokens":
        wanted: dict[str, list[int]] = (
            {"max_keep": [77]} if form == "fixed" else {"tensorrt_plugin_shape_input_indices": [1]}
        )
    else:
        wanted = {"level_shapes": [size for shape in result.metadata.level_shapes for size in shape]}
    assert fields == wanted
    assert finished.returncode != 0, "TensorRT-RTX adds plugins now: the plugin path can be tested further"


def test_the_same_file_without_the_plugins(export_tiny: Export, tmp_path: Path) -> None:
    """With bodies it is parsed into standard ops; without, the parser says which op it does not know."""
    result = export_tiny()
    path = tmp_path / "plugins.onnx"
    for keep_bodies in (True, False):
        path.write_bytes(plugin_graph(onnx.load(result.path), result.metadata, keep_bodies).SerializeToString())
        finished = run_rtx(PLUGINS, path, "absent")
        assert finished.returncode == 0, finished.stderr
        ((parsed, plugins, products),) = results(finished.stdout)
        assert (parsed, plugins) == (keep_bodies, 0)
        assert products > 30 or not keep_bodies


def test_an_onnx_file_that_the_parser_refuses(export_tiny: Export, tmp_path: Path) -> None:
    """Its reason is in our message, and nothing is written."""
    result = export_tiny()
    proto = onnx.load(result.path)
    node = next(node for node in proto.graph.node if node.op_type == "Conv")
    node.op_type, node.domain = "NoSuchOp", "nobody"  # valid ONNX: the checker does not know the domain
    proto.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    edited = resealed(proto, tmp_path / "edited.onnx", "edited")
    finished = export_program(edited, "--output", tmp_path / "out", "--engine", "tensorrt-rtx")
    assert finished.returncode == 7
    assert "NoSuchOp" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("moment", ["parsing", "Building engine, step 1"])
def test_ctrl_c(moment: str, export_tiny: Export, tmp_path: Path) -> None:
    """The build stops, the program leaves with 130, and there is no file."""
    code = f"""
import contextlib, sys
from sparse_detr_deploy.export import cli
@contextlib.contextmanager
def shown(console):
    yield lambda message: print("now", flush=True) if {moment!r} in message else None
cli.progress_line = shown
sys.argv = ["sparse-detr-export", *sys.argv[1:]]
cli.main()
"""
    arguments = [str(export_tiny().path), "--output", str(tmp_path / "out"), "--engine", "tensorrt-rtx"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=rtx_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("rho", [0.1, 0.3, 0.5, "dense", "dynamic"])
@pytest.mark.parametrize("architecture", ["r50", "swint"])
def test_full_size(architecture: str, rho: float | str, precision: str, tmp_path: Path) -> None:
    """800×1066, batch 1:1:4; ρ 0.3 keeps 5347 tokens, more than one TopK takes.

    The files are not verified here: that takes long at this size, and other tests do it.
    """
    ratio = rho if isinstance(rho, float) else None
    model = random_model(architecture, rho=0.0 if rho == "dense" else 0.3)
    spec = ExportSpec(800, 1066, rho=ratio, dynamic_rho=rho == "dynamic", batch=(1, 1, 4), precision=precision)
    onnx_file = tmp_path / f"{artefact_name(model.config, spec)}.onnx"
    onnx_file.write_bytes(export_onnx(model, spec).SerializeToString())
    engine = build(onnx_file, tmp_path)
    kind = "HALF" if precision == "fp16" else "FLOAT"
    assert engine["products"]["MATRIX_MULTIPLY"][kind] > 60
    assert engine["selection"] == {"dense": "none", 0.1: "top-k"}.get(rho, "top-k rounds")
    Path(engine["path"]).unlink()  # 200 MB
