"""Where gradients stop, and what a layer moves: what no comparison of outputs can tell."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from sparse_detr_deploy.modeling import DetectorOutput, ModelConfig, SparseDETR
from tests import networks

ONE_STAGE = {"two_stage": False, "with_box_refine": True, "refine_references": True}
TWO_STAGES = {"two_stage": True, "with_box_refine": True}
EFFICIENT = {**TWO_STAGES, "eff_query_init": True, "eff_specific_head": True}


def _network(**changes: bool) -> SparseDETR:
    return networks.filled(
        ModelConfig(
            backbone="thin-resnet18",
            num_classes=3,
            num_queries=6,
            hidden_dim=64,
            nheads=4,
            enc_layers=1,
            dec_layers=3,
            dim_feedforward=16,
            **changes,
        )
    )


def _output(model: SparseDETR) -> DetectorOutput:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    output: DetectorOutput = model(image, auxiliary=True)
    return output


def _reaches(result: Tensor, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether a gradient of ``result`` comes to any of ``parameters``."""
    gradients = torch.autograd.grad(result.sum(), list(parameters), retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize("changes", [ONE_STAGE, TWO_STAGES])
def test_a_layer_does_not_train_the_box_head_before_it(changes: dict[str, bool]) -> None:
    model = _network(**changes)
    output = _output(model)
    boxes = [*(layer.boxes for layer in output.decoder_auxiliary), output.pred_boxes]
    logits = [*(layer.logits for layer in output.decoder_auxiliary), output.pred_logits]
    heads = model.bbox_embed[:3]
    assert [[_reaches(layer, head.parameters()) for head in heads] for layer in boxes] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]
    assert not any(_reaches(layer, head.parameters()) for layer in logits for head in heads)


def test_learnt_references_are_trained_by_the_first_layer() -> None:
    model = _network(**ONE_STAGE)
    output = _output(model)
    assert _reaches(output.decoder_auxiliary[0].boxes, model.transformer.reference_points.parameters())
    assert _reaches(output.pred_boxes, [model.query_embed.weight])


@pytest.mark.parametrize("changes", [TWO_STAGES, EFFICIENT])
def test_the_decoder_does_not_train_the_first_stage(changes: dict[str, bool]) -> None:
    model = _network(**changes)
    output = _output(model)
    first_stage = [model.class_embed[3], model.bbox_embed[3], model.transformer.enc_output]
    results = [output.pred_logits, output.pred_boxes, output.decoder_auxiliary[0].boxes]
    assert not any(_reaches(result, module.parameters()) for module in first_stage for result in results)
    assert output.proposals is not None
    assert _reaches(output.proposals.boxes, model.bbox_embed[3].parameters())
    assert _reaches(output.proposals.logits, model.transformer.enc_output.parameters())
    assert _reaches(output.pred_boxes, model.transformer.pos_trans.parameters())
    # what the queries hold comes from the encoder, or from the boxes, whose gradient is stopped
    assert _reaches(output.pred_logits, model.transformer.encoder.layers[0].norm2.parameters())


def test_without_auxiliary_the_last_layer_is_the_same() -> None:
    for changes in (ONE_STAGE, {**ONE_STAGE, "refine_references": False}, EFFICIENT):
        model = _network(**changes)
        image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            alone, beside = model(image), model(image, auxiliary=True)
        assert torch.equal(alone.pred_boxes, beside.pred_boxes)
        assert torch.equal(alone.pred_logits, beside.pred_logits)
        assert not alone.decoder_auxiliary
        assert alone.proposals is None
