"""What a network takes as its keep ratio: a share, or a tensor of counts; anything else is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR
from sparse_detr_deploy.modeling.token_grid import full_grid
from sparse_detr_deploy.modeling.transformer import Transformer


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))


SIZES = torch.tensor([[96, 128], [60, 90]])


@pytest.mark.parametrize("sizes", [None, SIZES])
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (torch.tensor([0.3]), r"torch\.float32 \[1\].*int64 \[1\] or \[2\].*as a float"),
        (torch.tensor(0.3), r"torch\.float32 \[\]"),
        (torch.tensor(5), r"torch\.int64 \[\]"),
        (torch.tensor([5], dtype=torch.int32), r"torch\.int32 \[1\]"),
        (torch.tensor([True]), r"torch\.bool"),
        (torch.tensor([], dtype=torch.int64), r"torch\.int64 \[0\]"),
        (torch.tensor([5, 5, 5]), r"torch\.int64 \[3\]"),
        (torch.tensor([[5], [5]]), r"torch\.int64 \[2, 1\]"),
        (torch.tensor([0]), r"asks for \[0\] of the 256 tokens .* 96×128: give counts of 1 to 256"),
        (torch.tensor([-1]), r"asks for \[-1\]"),
        (torch.tensor([257]), r"asks for \[257\]"),
        (torch.tensor([10**6]), r"asks for \[1000000\]"),
        (torch.tensor([5, 0]), r"asks for \[5, 0\]"),
        ("abc", "keep ratio"),
        pytest.param(10**400, "keep ratio", id="beyond all floats"),
    ],
)
def test_what_is_refused(
    keep: float | Tensor, message: str, sizes: Tensor | None, images: Tensor, tiny_model: SparseDETR
) -> None:
    with pytest.raises(InputError, match=message):
        tiny_model(images, sizes, keep)


def test_a_grid_that_is_at_hand_changes_nothing(images: Tensor, tiny_model: SparseDETR) -> None:
    with pytest.raises(InputError, match="counts of 1 to 256"):
        tiny_model(images, keep_ratio=torch.tensor([0]), grid=tiny_model.grid(96, 128))


@pytest.mark.parametrize("counts", [[1], [256], [5, 9], [9, 5]])
def test_counts(counts: list[int], images: Tensor, tiny_model: SparseDETR) -> None:
    with torch.no_grad():
        selected = tiny_model(images, keep_ratio=torch.tensor(counts)).selected_tokens
    assert [len(set(row)) for row in selected.tolist()] == (counts * 2)[:2]


@pytest.mark.parametrize("sizes", [None, SIZES])
def test_a_number_in_a_text_is_refused(sizes: Tensor | None, images: Tensor, tiny_model: SparseDETR) -> None:
    with torch.no_grad(), pytest.raises(InputError, match="'0.3', but it is a share of the tokens"):
        tiny_model(images, sizes, "0.3")


def test_counts_of_padded_images_are_taken_in_float32() -> None:
    """As the original takes them: 90 · 0.7 is 63 there, and less in float64."""
    transformer = Transformer(ModelConfig(rho=0.3, two_stage=True, hidden_dim=32, enc_layers=1, dec_layers=1))
    grid = dataclasses.replace(full_grid(((10, 10),), 32), valid_tokens=torch.tensor([90, 10, 100]))
    scores = torch.rand(3, 100, generator=torch.Generator().manual_seed(0))
    assert [len(set(row)) for row in transformer.select(scores, grid, 0.7).tolist()] == [64, 8, 71]
    assert [len(set(row)) for row in transformer.select(scores, grid, 1.0).tolist()] == [91, 11, 100]
