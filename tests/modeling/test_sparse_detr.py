"""The detector as a whole: what it refuses, what may be given instead of being computed, how it starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR, build_model, sparse_config
from tests import networks
from tests.closeness import assert_close_to_scale

CONFIG = sparse_config(
    "thin-resnet18",
    num_classes=3,
    num_queries=10,
    hidden_dim=64,
    nheads=4,
    enc_layers=2,
    dec_layers=2,
    dim_feedforward=16,
)
SIZES = torch.tensor([[64, 96], [49, 71]])


@pytest.fixture(scope="module")
def model() -> SparseDETR:
    return networks.filled(CONFIG)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("images", "sizes", "message"),
    [
        (torch.zeros(3, 64, 96), None, r"\[3, 64, 96\]"),
        (torch.zeros(1, 1, 64, 96), None, r"\[1, 1, 64, 96\]"),
        (torch.zeros(1, 3, 64, 96, dtype=torch.uint8), None, r"torch\.uint8"),
        (torch.zeros(1, 3, 64, 96), torch.tensor([64, 96]), r"image_sizes are torch\.int64 \[2\]"),
        (torch.zeros(1, 3, 64, 96), torch.tensor([[64, 96]] * 2), r"\[2, 2\], but int64 \[1, 2\]"),
        (torch.zeros(1, 3, 64, 96), torch.tensor([[64.0, 96.0]]), r"torch\.float32"),
        (torch.zeros(1, 3, 64, 96), torch.tensor([[0, 96]]), r"\[\[0, 96\]\] do not fit the canvas \[64, 96\]"),
        (torch.zeros(1, 3, 64, 96), torch.tensor([[65, 96]]), "do not fit"),
        (torch.zeros(1, 3, 64, 96), torch.tensor([[64, 97]]), "do not fit"),
    ],
)
def test_what_is_refused(images: Tensor, sizes: Tensor | None, message: str, model: SparseDETR) -> None:
    with pytest.raises(InputError, match=message):
        model(images, sizes)


def test_as_many_tokens_as_queries_are_enough(model: SparseDETR) -> None:
    levels = [model.level_shapes(16, width) for width in (16, 24)]
    assert [sum(height * width for height, width in shapes) for shapes in levels] == [7, 10]
    with torch.no_grad(), pytest.raises(InputError, match="16×16 has 7 tokens, fewer than the 10 queries"):
        model(torch.zeros(1, 3, 16, 16))
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 16, 24)).pred_boxes.shape == (2, 10, 4)


def test_a_given_selection_takes_the_place_of_the_own(model: SparseDETR, images: Tensor) -> None:
    with torch.no_grad():
        own = model(images, SIZES)
        again = model(images, SIZES, selected_tokens=own.selected_tokens, selected_proposals=own.topk_proposals)
        assert own.selected_tokens is not None
        assert own.topk_proposals is not None
        tokens = torch.arange(4).expand(2, -1)
        other = model(images, SIZES, selected_tokens=tokens, selected_proposals=own.topk_proposals)
        reversed_ = model(images, SIZES, selected_proposals=own.topk_proposals.flip(1))
    assert torch.equal(again.pred_logits, own.pred_logits)
    assert other.selected_tokens is tokens
    assert (other.pred_logits - own.pred_logits).abs().max() > 1e-3
    assert_close_to_scale(reversed_.pred_boxes, own.pred_boxes.flip(1), 2e-5)


def test_sizes_that_fill_the_canvas_are_no_padding(model: SparseDETR, images: Tensor) -> None:
    filled = torch.tensor([[64, 96], [64, 96]])
    with torch.no_grad():
        assert torch.equal(model(images, filled).pred_logits, model(images).pred_logits)


def test_images_of_a_batch_do_not_see_each_other(model: SparseDETR, images: Tensor) -> None:
    images = images.clone()
    images[1, :, 49:] = 0
    images[1, :, :, 71:] = 0
    with torch.no_grad():
        together = model(images, SIZES)
        for index in range(2):
            alone = model(images[index : index + 1], SIZES[index : index + 1])
            assert_close_to_scale(together.pred_boxes[index], alone.pred_boxes[0], 2e-5)
            assert together.selected_tokens is not None
            assert alone.selected_tokens is not None
            assert set(together.selected_tokens[index].tolist()) == set(alone.selected_tokens[0].tolist())


@pytest.mark.parametrize("rho", [0.1, 0.3, 1.0])
def test_each_image_keeps_its_share_of_its_own_tokens(rho: float, model: SparseDETR, images: Tensor) -> None:
    # 96 + 24 + 6 + 2 tokens, and 7·9 + 4·5 + 2·3 + 1·2 of them in the smaller image
    expected = [min(int(valid * rho) + 1, 128) for valid in (128, 91)]
    with torch.no_grad():
        output = model(images, SIZES, rho)
    assert output.selected_tokens is not None
    assert [len(set(tokens)) for tokens in output.selected_tokens.tolist()] == expected
    grid = model.grid(64, 96, SIZES)
    assert grid.is_image is not None
    assert output.token_scores is not None
    padding = grid.is_image[..., 0] == 0
    assert (output.token_scores[padding] == output.token_scores.min()).all()
    if rho < 1:
        assert not padding.gather(1, output.selected_tokens).any()


def test_all_tokens_selected_is_a_dense_encoder(model: SparseDETR, images: Tensor) -> None:
    dense = build_model(ModelConfig(**{**CONFIG.to_dict(), "rho": 0.0, "use_enc_aux_loss": False}))
    state = {name: tensor for name, tensor in model.state_dict().items() if name in dense.state_dict()}
    dense.load_state_dict({name: state[name] for name in dense.state_dict()})
    with torch.no_grad():
        expected, found = dense(images, SIZES), model(images, SIZES, 1.0)
    assert_close_to_scale(found.pred_logits, expected.pred_logits, 2e-5)


@pytest.mark.parametrize(
    ("changes", "heads", "shared"),
    [
        ({}, 4, False),
        ({"use_enc_aux_loss": False, "rho": 0.0}, 3, False),
        ({"use_enc_aux_loss": False, "rho": 0.0, "with_box_refine": False}, 3, True),
    ],
)
def test_heads_at_the_start(changes: dict[str, float], heads: int, shared: bool) -> None:
    model = build_model(ModelConfig(**{**CONFIG.to_dict(), **changes}))
    assert len(model.class_embed) == len(model.bbox_embed) == heads
    assert (model.class_embed[0] is model.class_embed[1]) is shared
    assert (model.bbox_embed[0] is model.bbox_embed[1]) is shared
    for class_head, box_head in zip(model.class_embed, model.bbox_embed, strict=True):
        torch.testing.assert_close(class_head.bias.sigmoid(), torch.full((3,), 0.01))
        assert not box_head.layers[-1].weight.any()
        assert not box_head.layers[-1].bias.any()
    if heads == 4:  # two decoder layers, the first stage, the encoder's first layer
        assert model.transformer.encoder.class_embed[0] is model.class_embed[3]
        assert model.transformer.encoder.bbox_embed[0] is model.bbox_embed[3]
