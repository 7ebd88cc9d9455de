"""What a verification runs: batches, keep ratios, images and their groups."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.export.verification import (
    _groups,
    _images_of,
    _keep_ratios,
    _synthetic_images,
    batches_to_verify,
    read_verification_images,
)
from sparse_detr_deploy.modeling import build_model
from tests.export.hostile_checkpoints import CONFIG


@given(st.lists(st.integers(1, 200), min_size=3, max_size=3).map(sorted))
def test_batches_of_a_range(batch: list[int]) -> None:
    """All of them, or eight, spread, where there are more."""
    smallest, usual, largest = batch
    chosen = batches_to_verify((smallest, usual, largest))
    assert len(chosen) == min(8, largest - smallest + 1)
    assert chosen == sorted(set(chosen))
    assert {smallest, usual, largest} <= set(chosen) <= set(range(smallest, largest + 1))
    gaps = [after - before for before, after in itertools.pairwise(chosen)]
    assert max(gaps, default=0) <= 2 * ((largest - smallest) / 7 + 1)


@pytest.mark.parametrize(
    ("batch", "chosen"),
    [
        ((3, 3, 3), [3]),
        ((1, 8, 8), [1, 2, 3, 4, 5, 6, 7, 8]),
        ((1, 1, 9), [1, 2, 3, 4, 6, 7, 8, 9]),
        ((1, 5, 9), [1, 2, 3, 5, 6, 7, 8, 9]),
        ((1, 16, 64), [1, 10, 16, 28, 37, 46, 55, 64]),
        ((1, 63, 64), [1, 10, 19, 28, 37, 46, 63, 64]),
        ((1, 2, 64), [1, 2, 19, 28, 37, 46, 55, 64]),
    ],
)
def test_batches_by_example(batch: tuple[int, int, int], chosen: list[int]) -> None:
    """The usual one takes the place of the nearest that is not an end."""
    assert batches_to_verify(batch) == chosen


def test_ratios() -> None:
    """Of a file for every ratio: a small one, the trained one, and all tokens; each once."""
    fixed, dynamic = ExportSpec(96, 128, 0.2), ExportSpec(96, 128, dynamic_rho=True)
    for rho, of_fixed, of_dynamic in (
        (0.3, [0.2], [0.1, 0.3, 1.0]),
        (0.1, [0.2], [0.1, 1.0]),
        (1.0, [0.2], [0.1, 1.0]),
    ):
        model = build_model(dataclasses.replace(CONFIG, rho=rho))
        assert _keep_ratios(model, fixed) == of_fixed
        assert _keep_ratios(model, dynamic) == of_dynamic
    dense = build_model(dataclasses.replace(CONFIG, rho=0.0, use_enc_aux_loss=False))
    assert _keep_ratios(dense, ExportSpec(96, 128)) == [None]


@pytest.mark.parametrize(
    ("changes", "count", "sizes"),
    [
        ({}, 1, [(96, 128)]),
        ({}, 3, [(96, 128)] * 3),
        ({"padded": True}, 1, [(76, 128), (96, 89), (96, 128)]),
        ({"padded": True}, 4, [(76, 128), (96, 89), (96, 128), (76, 128)]),
    ],
)
def test_synthetic_images(changes: dict[str, Any], count: int, sizes: list[tuple[int, int]]) -> None:
    """All different, and of each shape that an image may have on a canvas with padding."""
    images = _synthetic_images(ExportSpec(96, 128, 0.3, **changes), count)
    assert [image.shape for image in images] == [(*size, 3) for size in sizes]
    assert len({image.tobytes() for image in images}) == len(images)
    assert _images_of(ExportSpec(96, 128, 0.3, **changes), count, None)[0].tobytes() == images[0].tobytes()


def test_given_images_are_all_run_at_the_usual_batch() -> None:
    images = [np.full((2, 2, 3), index, dtype=np.uint8) for index in range(5)]
    spec = ExportSpec(96, 128, 0.3, batch=(1, 2, 4))
    for batch, count in ((1, 1), (2, 5), (3, 3), (4, 4)):
        chosen = _images_of(spec, batch, images)
        assert [int(image[0, 0, 0]) for image in chosen] == list(range(count))


@pytest.mark.parametrize(
    ("batch", "groups"),
    [
        (1, [[0], [1], [2], [3], [4]]),
        (2, [[0, 1], [2, 3], [4, 0]]),
        (5, [[0, 1, 2, 3, 4]]),
        (7, [[0, 1, 2, 3, 4, 0, 1]]),
    ],
)
def test_the_last_group_is_filled_with_the_first_images(batch: int, groups: list[list[int]]) -> None:
    images = [np.full((1, 1, 3), index, dtype=np.uint8) for index in range(5)]
    assert [[int(image[0, 0, 0]) for image in group] for group in _groups(images, batch)] == groups


def test_verification_images(tmp_path: Path) -> None:
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), np.full((8, 9, 3), index, dtype=np.uint8))
    (tmp_path / "03.png").write_bytes(b"text")
    told: list[str] = []
    images = read_verification_images(tmp_path, told.append)
    assert [int(image[0, 0, 0]) for image in images] == [index for index in range(17) if index != 3]
    assert len(told) == 1
    assert "03.png" in told[0]
