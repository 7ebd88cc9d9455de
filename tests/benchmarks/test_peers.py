"""The side-by-side comparison: the floor, stand-ins for absent packages, what is refused."""

import collections
import importlib
import sys
import types

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks.peers.__main__ import main
from sparse_detr_deploy.benchmarks.peers.comparing import Row
from sparse_detr_deploy.benchmarks.peers.entries import FLOOR, FUSED, ORIGINAL, OURS, STOCK, Entry
from sparse_detr_deploy.benchmarks.peers.floor import build_floor
from sparse_detr_deploy.benchmarks.peers.hf_transformers import _make_float32
from sparse_detr_deploy.benchmarks.peers.preparing import in_child
from sparse_detr_deploy.benchmarks.peers.report import floor_distances, ratios
from sparse_detr_deploy.benchmarks.peers.stand_ins import imports_from
from sparse_detr_deploy.benchmarks.peers.worker import Worker
from sparse_detr_deploy.errors import ArtefactError, BackendError, InputError
from sparse_detr_deploy.onnx_metadata import read_metadata


@pytest.fixture(scope="session")
def artefact(artefacts):
    return artefacts["fixed"]


def _operators(path):
    """How many nodes of each kind ONNX Runtime runs after its optimisations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(options.optimized_model_filepath)
    return collections.Counter(node.op_type for node in optimised.graph.node)


def test_floor_holds_every_convolution_and_product_and_nothing_else_that_costs(artefact, tmp_path):
    told = build_floor(artefact, tmp_path / "floor.onnx")
    source = collections.Counter(node.op_type for node in onnx.load(artefact).graph.node)
    assert told["convolutions"] == source["Conv"] > 20
    assert told["products"] == source["MatMul"] + source["Gemm"] > 30
    run = _operators(tmp_path / "floor.onnx")
    assert run["Conv"] == source["Conv"]
    assert run["MatMul"] + run["Gemm"] + run["FusedMatMul"] == told["products"]
    # the residual additions and ReLUs are fused; the rest is the pooling, layouts, and one row of each result
    products = {"Conv", "MatMul", "Gemm", "FusedMatMul"}
    assert set(run) - products <= {
        "MaxPool",
        "ReorderInput",
        "ReorderOutput",
        "Add",
        "Relu",
        "Slice",
        "Reshape",
        "Concat",
    }


def test_floor_runs_on_inputs_of_the_true_shapes(artefact, tmp_path):
    build_floor(artefact, tmp_path / "floor.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "floor.onnx"), providers=["CPUExecutionProvider"])
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes["images"] == [1, 3, 128, 160]
    assert [1, 426, 64] in shapes.values()  # all tokens
    assert [1, 128, 64] in shapes.values()  # int(0.3 · 426) + 1 of them
    feed = {name: np.random.default_rng(0).standard_normal(shape, np.float32) for name, shape in shapes.items()}
    (rows,) = session.run(None, feed)
    assert np.isfinite(rows).all()


def test_floor_counts_the_multiply_adds(artefact, tmp_path):
    told = build_floor(artefact, tmp_path / "floor.onnx")
    # the artefact's own count has the attention and the norms in addition, which are a few per cent
    whole = read_metadata(artefact).gmacs()
    assert 0.9 * whole < told["gmacs"] < whole


def test_floor_refuses_shapes_that_are_not_fixed(artefact, tmp_path):
    proto = onnx.load(artefact)
    del proto.graph.value_info[:]
    onnx.save(proto, tmp_path / "shapeless.onnx")
    with pytest.raises(ArtefactError, match="is not fixed"):
        build_floor(tmp_path / "shapeless.onnx", tmp_path / "floor.onnx")


@pytest.mark.parametrize("content", [None, "models/deformable_detr.py"])
def test_cli_refuses_a_folder_that_is_no_checkout(tmp_path, content):
    folder = tmp_path / "checkout"
    if content is not None:
        (folder / content).parent.mkdir(parents=True)
        (folder / content).touch()
    result = CliRunner().invoke(main, ["--original", str(folder), "--json", str(tmp_path / "results.json")])
    assert result.exit_code == InputError.exit_code
    assert "not a checkout of kakaobrain/sparse-detr" in result.stderr
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("option", [("--rho", "1.5"), ("--rho", "nan"), ("--rounds", "0"), ("--size", "wide")])
def test_cli_refuses_settings_that_make_no_sense(option):
    result = CliRunner().invoke(main, [*option])
    assert result.exit_code == InputError.exit_code
    assert result.stderr.startswith("error: ")


def test_stand_ins_leave_no_trace(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("from torchvision.ops.boxes import box_area\n")
    before = set(sys.modules)
    with imports_from(tmp_path, ["models"], ["torchvision"]):
        box_area = importlib.import_module("models").box_area
    assert {name for name in set(sys.modules) - before if name.split(".")[0] in ("models", "torchvision")} == set()
    assert str(tmp_path) not in sys.path
    assert not list(tmp_path.rglob("__pycache__"))
    with pytest.raises(RuntimeError, match="stand-in"):
        box_area(None)


def test_a_worker_that_fails_says_why(tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((1, 3, 32, 32), np.float32))
    entry = Entry(OURS, "ONNX Runtime", None, "onnxruntime", {"path": str(tmp_path / "absent.onnx")})
    with pytest.raises(BackendError, match=r"absent\.onnx"):
        Worker(entry, tmp_path / "image.npy", threads=1, warmup=1)


def test_a_worker_takes_turns_and_ends(artefact, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((1, 3, 128, 160), np.float32))
    entry = Entry(OURS, "ONNX Runtime", 0.3, "onnxruntime", {"path": str(artefact)})
    with Worker(entry, tmp_path / "image.npy", threads=1, warmup=1) as worker:
        assert worker.peak_memory_mib > 50
        assert [worker.take_turn() > 0 for _ in range(2)] == [True, True]
    assert worker._process.returncode is not None


def test_entries_run_nothing_of_the_working_directory(artefact, tmp_path, hostile_folder, monkeypatch):
    np.save(tmp_path / "image.npy", np.zeros((1, 3, 128, 160), np.float32))
    entry = Entry(OURS, "ONNX Runtime", 0.3, "onnxruntime", {"path": str(artefact)})
    monkeypatch.chdir(hostile_folder)
    monkeypatch.setattr(sys, "path", list(filter(None, sys.path)))  # as of an installed program
    with Worker(entry, tmp_path / "image.npy", threads=1, warmup=1) as worker:
        assert worker.take_turn() > 0
    assert in_child(len, "abc") == 3
    assert not (tmp_path / "ran").exists()


def test_rows_are_compared_round_by_round():
    one, other = (Row(Entry(OURS, "x", None, "onnxruntime", {}), None, 1.0, 1.0) for _ in range(2))
    one.samples_ms = {0: 10.0, 1: 100.0, 2: 10.0}
    other.samples_ms = {0: 5.0, 1: 50.0}
    assert one.ratio_to(other) == 2.0


def _rows():
    """Two groups, each with ours, a peer and the floor; our dense artefact in both."""
    rows = []
    for rho, times in ((0.1, (100.0, 150.0, 80.0)), (None, (200.0, 500.0, 160.0))):
        for (family, runtime), time in zip(((OURS, FUSED), (ORIGINAL, STOCK), (FLOOR, STOCK)), times, strict=True):
            rows.append(Row(Entry(family, runtime, rho, "onnxruntime", {}), rho, 100.0, 1.0, {0: time, 1: time}))
    rows.append(Row(Entry(OURS, FUSED, None, "onnxruntime", {}), 0.1, 100.0, 1.0, {0: 210.0, 1: 210.0}))
    return rows


def test_ratios_stay_within_a_group():
    found = {(ratio["rho"], ratio["other"]): ratio["speedup"] for ratio in ratios(_rows())}
    assert found == {
        (0.1, "original, ONNX Runtime, ρ 0.1"): 1.5,
        (0.1, "ours, ONNX Runtime, fused kernels, dense"): 2.1,
        (None, "original, ONNX Runtime, dense"): 2.5,
    }


def test_distance_to_the_floor():
    prepared = types.SimpleNamespace(floors={0.1: {"gmacs": 8.0}, None: {"gmacs": 16.0}})
    found = floor_distances(_rows(), prepared)
    assert [(entry["rho"], entry["ours_over_floor"], entry["gmacs_per_s"]) for entry in found] == [
        (0.1, 1.25, 100.0),
        (None, 1.25, 100.0),
    ]


def test_float64_of_a_file_is_made_float32(tmp_path):
    text = """<ir_version: 9, opset_import: ["" : 17]>
    graph (float[2] images) => (float[2] result) {
        wide = Cast <to = 11> (images)
        two = Constant <value = double {2.0}> ()
        product = Mul (wide, two)
        result = Cast <to = 1> (product)
    }"""
    proto = onnx.parser.parse_model(text)
    _make_float32(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert [attribute.i for node in proto.graph.node for attribute in node.attribute if attribute.name == "to"] == [
        1,
        1,
    ]
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"images": np.array([1, 2], np.float32)})[0].tolist() == [2, 4]
