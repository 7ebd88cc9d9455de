"""What the metadata of a graph says of its custom ops."""

from __future__ import annotations

import onnx
import pytest

from sparse_detr_deploy.export.functions import CUSTOM_OPS, DOMAIN
from sparse_detr_deploy.export.graph import describe, export_onnx
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.modeling import SparseDETR


def said_and_held(proto: onnx.ModelProto) -> tuple[set[str], set[str]]:
    metadata = Metadata.from_json(next(entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY))
    return set(metadata.custom_ops), {node.op_type for node in proto.graph.node if node.domain == DOMAIN}


@pytest.mark.parametrize("inline", [False, True])
def test_the_custom_ops_are_those_of_the_file(inline: bool, tiny_model: SparseDETR, dense_model: SparseDETR) -> None:
    for model, rho, expected in (
        (tiny_model, 0.3, {"MSDeformAttn", "SelectTokens"}),
        (dense_model, None, {"MSDeformAttn"}),
    ):
        spec = ExportSpec(96, 128, rho, num_detections=20, inline_functions=inline)
        said, held = said_and_held(export_onnx(model, spec))
        assert said == held == (set() if inline else expected)


def test_metadata_has_a_list_of_its_own(tiny_model: SparseDETR) -> None:
    metadata = describe(tiny_model, ExportSpec(96, 128, 0.3, num_detections=20))
    metadata.custom_ops.clear()
    assert CUSTOM_OPS == {"MSDeformAttn": 1, "SelectTokens": 1}
