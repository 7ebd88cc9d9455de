"""What the metadata of a graph says, and the inputs that it is exported with."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from typing import Any

import onnx
import pytest
import torch

from sparse_detr_deploy import __version__
from sparse_detr_deploy.export.functions import CUSTOM_OPS, DOMAIN
from sparse_detr_deploy.export.graph import _inputs, describe, export_onnx, set_metadata
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.modeling import SparseDETR, build_model
from sparse_detr_deploy.modeling.complexity import count
from tests.conftest import Export
from tests.export.hostile_checkpoints import CONFIG


def said_and_held(proto: onnx.ModelProto) -> tuple[set[str], set[str]]:
    metadata = Metadata.from_json(next(entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY))
    return set(metadata.custom_ops), {node.op_type for node in proto.graph.node if node.domain == DOMAIN}


def test_the_custom_ops_are_those_of_the_file(export_tiny: Export, dense_result: ExportResult) -> None:
    for path, expected in (
        (export_tiny().path, {"MSDeformAttn", "SelectTokens"}),
        (dense_result.path, {"MSDeformAttn"}),
        (export_tiny(inline_functions=True).path, set()),
    ):
        said, held = said_and_held(onnx.load(path))
        assert said == held == expected


def test_a_graph_that_is_not_published_says_the_same(tiny_model: SparseDETR) -> None:
    said, held = said_and_held(export_onnx(tiny_model, ExportSpec(96, 128, 0.3, inline_functions=True)))
    assert said == held == set()


def test_metadata_has_a_list_of_its_own(tiny_model: SparseDETR) -> None:
    metadata = describe(tiny_model, ExportSpec(96, 128, 0.3, num_detections=20))
    metadata.custom_ops.clear()
    assert CUSTOM_OPS == {"MSDeformAttn": 1, "SelectTokens": 1}


SPEC = ExportSpec(96, 128, 0.3, num_detections=20)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, {}),
        ({"rho": 0.1}, {"rho": 0.1, "name": "thin18_rho10_96x128"}),
        ({"rho": None, "dynamic_rho": True}, {"rho": 0.3, "dynamic_rho": True, "name": "thin18_rhodyn_96x128"}),
        ({"batch": (1, 2, 3)}, {"batch": (1, 2, 3), "name": "thin18_rho30_96x128_b1-3"}),
        ({"padded": True}, {"padded": True, "name": "thin18_rho30_96x128_padded"}),
        ({"outputs": "raw"}, {"outputs": "raw", "name": "thin18_rho30_96x128_raw"}),
        ({"num_detections": 7}, {"num_detections": 7}),
        ({"uint8_input": True}, {"input_dtype": "uint8", "name": "thin18_rho30_96x128_uint8"}),
        ({"inline_functions": True}, {"inlined": True, "custom_ops": {}, "name": "thin18_rho30_96x128_inlined"}),
        ({"class_names": ("a", "b", "c", "d", "e")}, {"class_names": ("a", "b", "c", "d", "e")}),
        ({"precision": "fp16"}, {"precision": "float16", "name": "thin18_rho30_96x128_fp16"}),
        (
            {"height": 64, "width": 160},
            {
                "height": 64,
                "width": 160,
                "level_shapes": ((8, 20), (4, 10), (2, 5), (1, 3)),
                "name": "thin18_rho30_64x160",
            },
        ),
    ],
)
def test_what_is_asked_for_is_said(changes: dict[str, Any], said: dict[str, Any]) -> None:
    """And nothing else changes by it."""
    model = build_model(CONFIG)
    model.source = {"file": "x\udcff.pth", "sha256": "abc", "random_weights": 0}
    expected = {
        "name": "thin18_rho30_96x128",
        "architecture": "thin18",
        "model": dataclasses.asdict(CONFIG),
        "height": 96,
        "width": 128,
        "level_shapes": ((12, 16), (6, 8), (3, 4), (2, 2)),
        "batch": (1, 1, 1),
        "rho": 0.3,
        "dynamic_rho": False,
        "padded": False,
        "input_dtype": "float32",
        "color": "rgb",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "outputs": "detections",
        "num_detections": 20,
        "num_queries": 20,
        "num_classes": 5,
        "class_names": None,
        "precision": "float32",
        "opset": 20,
        "inlined": False,
        "custom_ops": {"MSDeformAttn": 1, "SelectTokens": 1},
        "checkpoint": {"file": "x?.pth", "sha256": "abc", "random_weights": 0},
        "verification": {},
        "toolkit_version": __version__,
        "digest": "",
        "schema_version": 1,
    }
    spec = dataclasses.replace(SPEC, **changes)
    found = dataclasses.asdict(describe(model, spec))
    versions = found.pop("versions")
    assert versions == {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
    complexity = count(CONFIG, spec.height, spec.width, said.get("level_shapes", expected["level_shapes"]))
    assert found.pop("gmacs_fixed") == complexity.fixed / 1e9
    assert found.pop("gmacs_per_kept_token") == complexity.per_kept_token / 1e9
    assert found == {**expected, **said}


def test_a_dense_model_has_no_ratio() -> None:
    config = dataclasses.replace(CONFIG, rho=0.0, use_enc_aux_loss=False)
    found = describe(build_model(config), dataclasses.replace(SPEC, rho=None))
    assert (found.rho, found.name, found.custom_ops) == (None, "thin18_dense_96x128", {"MSDeformAttn": 1})


def test_metadata_is_replaced_and_the_rest_stays() -> None:
    proto = onnx.ModelProto()
    onnx.helper.set_model_props(proto, {"other": "thing", METADATA_KEY: "older"})
    metadata = describe(build_model(CONFIG), SPEC)
    set_metadata(proto, metadata)
    assert {entry.key: entry.value for entry in proto.metadata_props} == {
        "other": "thing",
        METADATA_KEY: metadata.to_json(),
    }
    assert len(proto.metadata_props) == 2
    assert (proto.producer_name, proto.producer_version) == ("sparse-detr-deploy", __version__)


@pytest.mark.parametrize(
    ("changes", "shapes", "dynamic"),
    [
        ({}, {"images": (1, 3, 96, 128)}, None),
        ({"batch": (3, 3, 3)}, {"images": (3, 3, 96, 128)}, None),
        ({"batch": (1, 2, 4)}, {"images": (2, 3, 96, 128)}, ({0}, None, None)),
        ({"batch": (3, 3, 4)}, {"images": (3, 3, 96, 128)}, ({0}, None, None)),
        (
            {"batch": (1, 2, 4), "padded": True},
            {"images": (2, 3, 96, 128), "image_sizes": (2, 2)},
            ({0}, {0}, None),
        ),
        (
            {"batch": (1, 2, 4), "rho": None, "dynamic_rho": True},
            {"images": (2, 3, 96, 128), "num_keep": (1,)},
            ({0}, None, set()),
        ),
        (
            {"batch": (1, 2, 4), "padded": True, "rho": None, "dynamic_rho": True},
            {"images": (2, 3, 96, 128), "image_sizes": (2, 2), "num_keep": (2,)},
            ({0}, {0}, {0}),
        ),
    ],
)
def test_inputs_of_the_export(
    changes: dict[str, Any], shapes: dict[str, tuple[int, ...]], dynamic: tuple[Any, ...] | None
) -> None:
    """One example is not enough where the batch is open: PyTorch takes a size of one for a constant."""
    for uint8 in (False, True):
        spec = dataclasses.replace(SPEC, uint8_input=uint8, **changes)
        inputs, dimensions = _inputs(spec, build_model(CONFIG))
        given = {name: value for name, value in inputs.items() if value is not None}
        assert {name: tuple(value.shape) for name, value in given.items()} == shapes
        assert list(inputs) == ["images", "image_sizes", "num_keep"]
        assert given.pop("images").dtype == (torch.uint8 if uint8 else torch.float32)
        assert {value.dtype for value in given.values()} <= {torch.int64}
        if "image_sizes" in given:
            assert (given["image_sizes"] == torch.tensor([96, 128])).all()
        axes = None if dimensions is None else tuple(None if axes is None else set(axes) for axes in dimensions)
        assert axes == dynamic
        if dimensions is not None:
            batch = dimensions[0][0]
            assert (batch.__name__, batch.min, batch.max) == ("batch", spec.batch[0], spec.batch[2])
