"""What is known of a token by its place, against the formulas of DETR and Deformable DETR written out in float64."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_detr_deploy.modeling.token_grid import TokenGrid, full_grid, padded_grid, sine_embedding
from tests.closeness import assert_close_to_scale

CANVAS = (36, 50)
SHAPES = ((9, 13), (5, 7), (3, 4), (2, 2), (1, 1), (1, 1))  # the sixth level's boxes are larger than the image
SIZES = ((36, 50), (20, 33), (1, 50), (36, 1))
DIM = 16
TOKENS = sum(height * width for height, width in SHAPES)
FULL = full_grid(SHAPES, DIM)
PADDED = padded_grid(SHAPES, DIM, CANVAS, torch.tensor(SIZES))


@dataclasses.dataclass(frozen=True)
class Token:
    """One token of an image of which ``rows`` × ``columns`` of its level show something."""

    level: int
    row: int
    column: int
    rows: int
    columns: int

    @property
    def is_image(self) -> bool:
        return self.row < self.rows and self.column < self.columns

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in 0..1 of the image."""
        return (self.column + 0.5) / self.columns, (self.row + 0.5) / self.rows

    @property
    def box(self) -> tuple[float, float, float, float]:
        """What it proposes: (cx, cy, w, h)."""
        return (*self.centre, 0.05 * 2**self.level, 0.05 * 2**self.level)

    @property
    def proposes(self) -> bool:
        return self.is_image and all(0.01 < number < 0.99 for number in self.box)


def shown(size: int, canvas: int, image: int) -> int:
    """Positions of a level whose nearest pixel of the canvas is image."""
    return sum(math.floor(position * canvas / size) < image for position in range(size))


def tokens_of(image: tuple[int, int] = CANVAS) -> list[Token]:
    return [
        Token(level, row, column, shown(height, CANVAS[0], image[0]), shown(width, CANVAS[1], image[1]))
        for level, (height, width) in enumerate(SHAPES)
        for row in range(height)
        for column in range(width)
    ]


IMAGES = [tokens_of(size) for size in SIZES]


def sines(position: float, features: int) -> list[float]:
    """DETR, appendix A.4: pairs of a sine and a cosine, wavelengths from 2π to 10000 · 2π."""
    angles = [position * 2 * math.pi / 10000 ** (2 * pair / features) for pair in range(features // 2)]
    return [function(angle) for angle in angles for function in (math.sin, math.cos)]


def position_of(token: Token) -> list[float]:
    return [
        *sines((token.row + 0.5) / (token.rows + 1e-6), DIM // 2),
        *sines((token.column + 0.5) / (token.columns + 1e-6), DIM // 2),
    ]


def where_image(values: Tensor, image: int) -> NDArray[np.float32]:
    """Rows of ``values`` [N, …] that are image: what stands in the padding is masked wherever it is used."""
    chosen: NDArray[np.float32] = values[[token.is_image for token in IMAGES[image]]].numpy()
    return chosen


@pytest.mark.parametrize("features", [2, 8, 128])
def test_sine_embedding(features: int) -> None:
    positions = torch.linspace(0, 1, 7).view(7, 1)
    expected = [[sines(float(position), features)] for position in positions]
    assert_close_to_scale(sine_embedding(positions, features), expected, 1e-6)


def test_images_that_fill_the_canvas() -> None:
    tokens = tokens_of()
    assert_close_to_scale(FULL.position, [[position_of(token) for token in tokens]], 1e-6)
    assert_close_to_scale(FULL.reference_points, [[[token.centre] for token in tokens]], 1e-6)
    assert FULL.valid_ratios.tolist() == [[[1, 1]]]
    assert FULL.is_image is None
    assert FULL.valid_tokens is None
    assert FULL.embedding is None


@pytest.mark.parametrize("image", range(len(SIZES)))
def test_images_with_padding(image: int) -> None:
    tokens = IMAGES[image]
    real = [token for token in tokens if token.is_image]
    assert_close_to_scale(where_image(PADDED.position[image], image), [position_of(token) for token in real], 1e-6)
    assert PADDED.is_image is not None
    assert PADDED.is_image[image, :, 0].tolist() == [float(token.is_image) for token in tokens]
    assert PADDED.valid_tokens is not None
    assert PADDED.valid_tokens[image] == len(real)
    ratios = [
        [shown(width, CANVAS[1], SIZES[image][1]) / width, shown(height, CANVAS[0], SIZES[image][0]) / height]
        for height, width in SHAPES
    ]
    assert_close_to_scale(PADDED.valid_ratios[image], ratios, 1e-6)
    # the centre in the image, and where that lies on the canvas of each level
    centres = [[[x * width, y * height] for width, height in ratios] for x, y in (token.centre for token in real)]
    assert_close_to_scale(where_image(PADDED.reference_points[image], image), centres, 1e-6)


@pytest.mark.parametrize(
    ("grid", "row", "tokens"),
    [(FULL, 0, tokens_of()), *((PADDED, index, tokens) for index, tokens in enumerate(IMAGES))],
)
def test_proposals(grid: TokenGrid, row: int, tokens: list[Token]) -> None:
    proposes = np.array([token.proposes for token in tokens])
    assert grid.is_proposal[row, :, 0].tolist() == proposes.astype(float).tolist()
    if tokens[0].rows > 1 and tokens[0].columns > 1:
        assert 0 < proposes.sum() < len(tokens)
    logits = [[math.log(number / (1 - number)) for number in token.box] for token in tokens if token.proposes]
    found = grid.proposals[row].numpy()
    assert_close_to_scale(found[proposes], np.reshape(logits, (-1, 4)), 1e-6)
    # their boxes are the corner (1, 1), also in half precision, where an infinite logit would be NaN
    assert (found[~proposes] == 1e4).all()


@pytest.mark.parametrize(("size", "tokens"), [((48, 72), 6 * 9), ((49, 72), 7 * 9), ((48, 73), 6 * 10), ((1, 1), 1)])
def test_a_token_is_image_where_its_first_pixel_is(size: tuple[int, int], tokens: int) -> None:
    valid = padded_grid(((8, 12),), DIM, (64, 96), torch.tensor([size])).valid_tokens
    assert valid is not None
    assert valid.tolist() == [tokens]


def test_tokens_within_a_hundredth_of_the_rim_propose_nothing() -> None:
    """The first centre of 49 lies at 0.0102, that of 51 at 0.0098."""
    proposes = full_grid(((49, 51),), DIM).is_proposal.view(49, 51)
    expected = torch.ones(49, 51)
    expected[:, [0, -1]] = 0
    assert torch.equal(proposes, expected)


def test_a_canvas_that_is_filled_needs_no_masks() -> None:
    """The first image fills it: the grid for all sizes says the same."""
    for name in ("position", "proposals", "is_proposal"):
        assert torch.equal(getattr(PADDED, name)[0], getattr(FULL, name)[0]), name
    assert torch.equal(PADDED.reference_points[0], FULL.reference_points[0].expand(-1, len(SHAPES), -1))


def test_shapes() -> None:
    for grid, images in ((FULL, 1), (PADDED, len(SIZES))):
        assert grid.position.shape == (images, TOKENS, DIM)
        assert grid.proposals.shape == (images, TOKENS, 4)
        assert grid.is_proposal.shape == (images, TOKENS, 1)
    assert all(value.dtype == torch.float32 for value in (FULL.position, FULL.reference_points, FULL.is_proposal))
    assert PADDED.valid_tokens is not None
    assert PADDED.valid_tokens.dtype == torch.int64


def test_every_tensor_moves() -> None:
    grid = dataclasses.replace(PADDED, embedding=torch.zeros(1))
    moved = grid.to(torch.device("meta"))
    for field in dataclasses.fields(TokenGrid):
        assert getattr(moved, field.name).device.type == "meta", field.name
        assert getattr(moved, field.name).shape == getattr(grid, field.name).shape, field.name
    assert FULL.to(torch.device("meta")).is_image is None
