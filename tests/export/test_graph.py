"""What the metadata of a graph says of its custom ops."""

from __future__ import annotations

import onnx

from sparse_detr_deploy.export.functions import CUSTOM_OPS, DOMAIN
from sparse_detr_deploy.export.graph import describe, export_onnx
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.modeling import SparseDETR
from tests.conftest import Export


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
