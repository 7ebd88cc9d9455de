"""The builder by itself, on the fake TensorRT and graphs of two nodes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.export.engine.builder import EngineBuilder
from sparse_detr_deploy.export.engine.network import NetworkSummary
from sparse_detr_deploy.export.engine.spec import EngineSpec
from sparse_detr_deploy.metadata import Metadata
from tests.fakes.profile_cases import REST, small_graph
from tests.fakes.tensorrt import FakeTensorRT
from tests.fakes.tensorrt_types import DataType

METADATA = Metadata(
    name="x", architecture="r50", model={}, height=64, width=64, level_shapes=((3, 4),), batch=(2, 3, 5), rho=0.3
)
RTX: dict[str, Any] = {"flavour": "tensorrt-rtx", "version": "1.7.1.116"}


def built(trt: FakeTensorRT, spec: EngineSpec, *graph: bool, **changes: Any) -> list[NetworkSummary]:
    """What the builder told of the network."""
    told: list[NetworkSummary] = []
    proto = onnx.load_from_string(small_graph(*graph))
    EngineBuilder(trt, spec).build(proto, dataclasses.replace(METADATA, **changes), told.append)
    return told


def test_three_shapes_of_a_batch() -> None:
    trt = FakeTensorRT()
    built(trt, EngineSpec("tensorrt"), True, False)
    assert trt.profiles[0].get_shape("images") == [(batch, *REST) for batch in (2, 3, 5)]


def test_three_counts_of_tokens() -> None:
    """From one token to all; the trained ratio between them."""
    trt = FakeTensorRT()
    built(trt, EngineSpec("tensorrt"), False, True, dynamic_rho=True, batch=(1, 1, 1))
    assert trt.profiles[0].get_shape_input("num_keep") == [[1], [int(0.3 * 12) + 1], [12]]
    assert trt.profiles[0]._shapes == {}


def test_batches_and_counts_lie_in_one_profile() -> None:
    trt = FakeTensorRT()
    built(trt, EngineSpec("tensorrt"), True, True, dynamic_rho=True)
    (profile,) = trt.profiles
    assert profile.get_shape("images") == [(batch, *REST) for batch in (2, 3, 5)]
    assert profile.get_shape_input("num_keep") == [[1], [int(0.3 * 12) + 1], [12]]


def test_a_fixed_graph_has_no_profile() -> None:
    trt = FakeTensorRT()
    built(trt, EngineSpec("tensorrt"), False, False)
    assert trt.profiles == []


def test_a_profile_that_is_refused() -> None:
    with pytest.raises(BackendError, match=r"x: TensorRT 10\.16\.1\.11 takes no such profile: .*MIN<=OPT<=MAX"):
        built(FakeTensorRT(), EngineSpec("tensorrt"), True, False, batch=(4, 3, 5))


def test_what_is_asked_of_tensorrt() -> None:
    """No TF32, every layer told, timings of nothing to begin with; the workspace in bytes."""
    trt = FakeTensorRT()
    built(trt, EngineSpec("tensorrt", workspace_mib=3), False, False)
    assert trt.calls == {
        "create_network": [1 << 1],
        "clear_flag": ["TF32"],
        "profiling_verbosity": ["DETAILED"],
        "set_memory_pool_limit": [("WORKSPACE", 3 << 20)],
        "create_timing_cache": [b""],
    }


def test_what_is_asked_of_tensorrt_rtx() -> None:
    """The targets in their order, and no timing cache, which needs a driver."""
    trt = FakeTensorRT(**RTX)
    built(trt, EngineSpec("tensorrt-rtx", ("sm120", "sm86", "sm89")), True, False)
    assert trt.calls == {
        "create_network": [1 << 0],
        "clear_flag": ["TF32"],
        "profiling_verbosity": ["DETAILED"],
        "targets": [["SM120", "SM86", "SM89"]],
    }
    assert trt.profiles[0].get_shape("images")[0] == (2, *REST)


def test_the_network_is_told_before_the_long_work() -> None:
    trt = FakeTensorRT(layer_type=DataType.HALF)
    assert built(trt, EngineSpec("tensorrt"), True, True) == [NetworkSummary({"HALF": 2}, {}, {})]

    def refuse(summary: NetworkSummary) -> None:
        raise BackendError("not this one")

    builder = EngineBuilder(trt, EngineSpec("tensorrt"))
    with pytest.raises(BackendError, match="not this one"):
        builder.build(onnx.load_from_string(small_graph(True, False)), METADATA, refuse)
    assert len(trt.profiles) == 1  # of the first build


def test_an_operator_that_the_parser_does_not_know() -> None:
    proto = onnx.load_from_string(small_graph(True, False))
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "Nobodys", "nobody"
    builder = EngineBuilder(FakeTensorRT(), EngineSpec("tensorrt"))
    with pytest.raises(
        BackendError, match=r"x: the parser of TensorRT 10\.16\.1\.11 refuses it: no importer for Nobodys"
    ):
        builder.build(proto, METADATA, lambda summary: None)


def test_progress_is_of_the_outermost_phase() -> None:
    told: list[str] = []
    builder = EngineBuilder(FakeTensorRT(), EngineSpec("tensorrt"))
    builder.build(onnx.load_from_string(small_graph(True, False)), METADATA, lambda summary: None, told.append)
    phase = "Building engine"
    assert told == ["parsing", phase, f"{phase}, step 1 of 2", f"{phase}, step 2 of 2"]


def test_errors_of_an_earlier_build_are_forgotten() -> None:
    trt = FakeTensorRT(builds=False)
    builder, proto = EngineBuilder(trt, EngineSpec("tensorrt")), onnx.load_from_string(small_graph(True, False))
    with pytest.raises(BackendError, match="MIN<=OPT<=MAX"):
        builder.build(proto, dataclasses.replace(METADATA, batch=(4, 3, 5)), lambda summary: None)
    with pytest.raises(BackendError, match=r"builds no engine: no implementation for node X$"):
        builder.build(proto, METADATA, lambda summary: None)


@pytest.mark.parametrize("self_contained", [False, True])
def test_a_library_is_loaded_once(self_contained: bool, tmp_path: Path) -> None:
    """Into the registry of the process; that of the builder where the runtime must find it in the engine."""
    library = tmp_path / "plugins.so"
    library.write_bytes(b"PLUGINS")
    trt, spec = FakeTensorRT(), EngineSpec("tensorrt", self_contained=self_contained)
    for _ in range(2):
        EngineBuilder(trt, spec, library)
    place = "of the builder" if self_contained else "of the process"
    assert trt.loads == [(place, str(library))] * (2 if self_contained else 1)
