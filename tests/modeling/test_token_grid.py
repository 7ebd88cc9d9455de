"""What depends on the place of a token alone: numbers written out."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from sparse_detr_deploy.modeling.token_grid import TokenGrid, full_grid, padded_grid, sine_embedding

INVALID = 1e4
SHAPES = ((8, 12), (4, 6), (2, 3), (1, 2))
CANVAS = (64, 96)


@pytest.fixture(scope="module")
def padded() -> TokenGrid:
    """One image that fills the canvas and one of 49×71."""
    return padded_grid(SHAPES, 8, CANVAS, torch.tensor([[64, 96], [49, 71]]))


def test_sine_and_cosine_alternate_from_the_highest_frequency() -> None:
    found = sine_embedding(torch.tensor([0.3]), 4)
    fast, slow = 0.3 * 2 * math.pi, 0.3 * 2 * math.pi / 100
    expected = torch.tensor([[math.sin(fast), math.cos(fast), math.sin(slow), math.cos(slow)]])
    torch.testing.assert_close(found, expected)


def test_position_is_of_rows_then_of_columns() -> None:
    grid = full_grid(((2, 3), (1, 1)), 8)
    rows, columns = [0.25, 0.25, 0.25, 0.75, 0.75, 0.75, 0.5], [1 / 6, 0.5, 5 / 6, 1 / 6, 0.5, 5 / 6, 0.5]
    expected = torch.cat([sine_embedding(torch.tensor([axis]), 4) for axis in (rows, columns)], dim=-1)
    torch.testing.assert_close(grid.position, expected, rtol=0, atol=1e-5)
    expected = torch.tensor([[[[x, y]] for x, y in zip(columns, rows, strict=True)]])
    torch.testing.assert_close(grid.reference_points, expected)


def test_padding_is_what_nearest_neighbours_say(padded: TokenGrid) -> None:
    # rows 0, 8, … 48 of 64 and columns 0, 8, … 64 of 96 show the second image, and so on level by level
    valid = [(7, 9), (4, 5), (2, 3), (1, 2)]
    expected = torch.cat(
        [
            ((torch.arange(height)[:, None] < rows) & (torch.arange(width) < columns)).float().flatten()
            for (height, width), (rows, columns) in zip(SHAPES, valid, strict=True)
        ]
    )
    assert padded.is_image is not None
    assert torch.equal(padded.is_image[1, :, 0], expected)
    assert torch.equal(padded.is_image[0], torch.ones(128, 1)[: len(expected)])
    assert padded.valid_tokens is not None
    assert padded.valid_tokens.tolist() == [128, 7 * 9 + 4 * 5 + 2 * 3 + 1 * 2]
    ratios = [[columns / width, rows / height] for (height, width), (rows, columns) in zip(SHAPES, valid, strict=True)]
    torch.testing.assert_close(padded.valid_ratios, torch.tensor([[[1.0, 1.0]] * 4, ratios]))


@pytest.mark.parametrize(("size", "tokens"), [((48, 72), 6 * 9), ((49, 72), 7 * 9), ((48, 73), 6 * 10), ((1, 1), 1)])
def test_a_token_is_image_where_its_first_pixel_is(size: tuple[int, int], tokens: int) -> None:
    valid = padded_grid(SHAPES[:1], 8, CANVAS, torch.tensor([size])).valid_tokens
    assert valid is not None
    assert valid.tolist() == [tokens]


def test_reference_points_are_of_the_canvas_of_each_level(padded: TokenGrid) -> None:
    # the token in row 3 and column 5 of the first level lies at 5.5/9, 3.5/7 of the image
    x, y = 5.5 / 9, 3.5 / 7
    expected = torch.tensor([[x * 9 / 12, y * 7 / 8], [x * 5 / 6, y], [x, y], [x, y]])
    torch.testing.assert_close(padded.reference_points[1, 3 * 12 + 5], expected)


def test_positions_are_of_the_image_and_not_of_the_canvas(padded: TokenGrid) -> None:
    expected = torch.cat([sine_embedding(torch.tensor([place]), 4) for place in (3.5 / 7, 5.5 / 9)], dim=-1)
    torch.testing.assert_close(padded.position[1, 3 * 12 + 5], expected[0], rtol=0, atol=1e-5)


def test_images_that_fill_the_canvas_need_no_mask(padded: TokenGrid) -> None:
    full = full_grid(SHAPES, 8)
    for field in ("position", "proposals", "is_proposal"):
        assert torch.equal(getattr(full, field)[0], getattr(padded, field)[0]), field
    assert torch.equal(full.reference_points.expand(1, -1, 4, 2)[0], padded.reference_points[0])
    assert torch.equal(full.valid_ratios.expand(1, 4, 2)[0], padded.valid_ratios[0])
    assert full.is_image is None


def test_proposals_are_boxes_around_the_tokens_twice_as_large_a_level(padded: TokenGrid) -> None:
    starts = (0, 96, 120, 126)
    for level, (start, (_, width)) in enumerate(zip(starts, SHAPES, strict=True)):
        box = full_grid(SHAPES, 8).proposals[0, start + width // 2].sigmoid()
        height = SHAPES[level][0]
        expected = torch.tensor([(width // 2 + 0.5) / width, 0.5 / height, 0.05 * 2**level, 0.05 * 2**level])
        torch.testing.assert_close(box, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        padded.proposals[1, 3 * 12 + 5].sigmoid(), torch.tensor([5.5 / 9, 3.5 / 7, 0.05, 0.05]), rtol=1e-4, atol=1e-6
    )


def test_padding_proposes_nothing(padded: TokenGrid) -> None:
    assert padded.is_image is not None
    padding = padded.is_image[1, :, 0] == 0
    assert padding.sum() == 128 - 91
    assert (padded.proposals[1, padding] == INVALID).all()
    assert not padded.is_proposal[1, padding].any()
    assert padded.is_proposal[1, ~padding].all()


@pytest.mark.parametrize(("size", "rim"), [(49, 0), (52, 1), (148, 1), (152, 2)])
def test_tokens_within_a_hundredth_of_the_rim_propose_nothing(size: int, rim: int) -> None:
    inside = torch.arange(size)
    expected = ((inside >= rim) & (inside < size - rim)).float()
    for shape in ((1, size), (size, 1)):
        grid = full_grid((shape,), 8)
        assert torch.equal(grid.is_proposal[0, :, 0], expected)
        assert torch.equal(grid.proposals[0] == INVALID, (expected == 0)[:, None].expand(-1, 4))


def test_boxes_beyond_the_image_are_not_proposed() -> None:
    is_proposal = full_grid(((1, 1),) * 6, 8).is_proposal[0, :, 0]
    assert is_proposal.tolist() == [1, 1, 1, 1, 1, 0]  # sizes 0.05, 0.1, … 0.8, 1.6


def test_a_grid_moves_with_all_its_tensors(padded: TokenGrid) -> None:
    moved = padded.to(torch.device("meta"))
    for field in dataclasses.fields(TokenGrid):
        before, after = getattr(padded, field.name), getattr(moved, field.name)
        assert (before is None) == (after is None), field.name
        assert after is None or (isinstance(after, Tensor) and after.is_meta), field.name
