"""The networks give what the original implementation gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.modeling import DetectorOutput, ModelConfig, SparseDETR, build_model
from sparse_detr_deploy.modeling.backbones.resnet import fold_batch_norms
from tests import reference
from tests.closeness import assert_close_to_scale


@pytest.fixture(scope="module", params=reference.CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(case: str) -> SparseDETR:
    model = build_model(ModelConfig.from_mapping(reference.load_case(case)["config"]))
    model.load_state_dict(reference.state_dict(case))
    return model


@pytest.fixture(scope="module")
def output(case: str, model: SparseDETR) -> DetectorOutput:
    with torch.no_grad():
        return model(*reference.images(case), auxiliary=True)


def test_state_dict_has_the_official_keys(case: str, model: SparseDETR) -> None:
    expected = {key: tuple(entry["shape"]) for key, entry in reference.layout(case).items()}
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected


def test_raw_outputs(case: str, output: DetectorOutput) -> None:
    arrays = reference.load_case(case)
    assert_close_to_scale(output.pred_logits, arrays["pred_logits"], 2e-4)
    assert_close_to_scale(output.pred_boxes, arrays["pred_boxes"], 5e-5)


def test_selected_tokens(case: str, output: DetectorOutput) -> None:
    if case not in reference.SPARSE_CASES:
        assert output.selected_tokens is None
        return
    arrays = reference.load_case(case)
    assert output.selected_tokens is not None
    assert_close_to_scale(output.token_scores, arrays["mask_prediction"], 2e-5)
    for index, selected in enumerate(output.selected_tokens):
        np.testing.assert_array_equal(np.unique(selected), arrays[f"kept_tokens_{index}"])


def test_auxiliary_heads_can_be_asked_for(case: str, model: SparseDETR, output: DetectorOutput) -> None:
    config = model.config
    assert len(output.decoder_auxiliary) == config.dec_layers - 1
    assert len(output.encoder_auxiliary) == (config.enc_layers - 1 if config.use_enc_aux_loss else 0)
    assert output.proposals is not None
    assert all(torch.isfinite(prediction.logits).all() for prediction in output.encoder_auxiliary)


def test_folding_batch_norms_changes_nothing() -> None:
    case = "r50_sparse_rho30"
    model = build_model(ModelConfig.from_mapping(reference.load_case(case)["config"]))
    model.load_state_dict(reference.state_dict(case))
    images, _ = reference.images(case)
    with torch.no_grad():
        before = model.backbone[0]["body"](images)
        fold_batch_norms(model)
        after = model.backbone[0]["body"](images)
    for level, (one, other) in enumerate(zip(before, after, strict=True)):
        assert_close_to_scale(other, one, 3e-5, name=f"level {level}")


def test_keep_ratio_of_one_keeps_every_token() -> None:
    case = "r50_sparse_rho30"
    model = build_model(ModelConfig.from_mapping(reference.load_case(case)["config"]))
    images, _ = reference.images(case)
    with torch.no_grad():
        selected = model(images, keep_ratio=1.0).selected_tokens
    assert selected.tolist() == [list(range(1700))]


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5, float("nan")])
def test_keep_ratio_outside_its_range(ratio: float) -> None:
    model = build_model(ModelConfig(rho=0.3, two_stage=True, enc_layers=1, dec_layers=1))
    with pytest.raises(InputError, match="keep ratio"):
        model(torch.zeros(1, 3, 256, 320), keep_ratio=ratio)


def test_keep_ratio_on_a_dense_model() -> None:
    model = build_model(ModelConfig(enc_layers=1, dec_layers=1))
    with pytest.raises(InputError, match="dense"):
        model(torch.zeros(1, 3, 64, 64), keep_ratio=0.3)
