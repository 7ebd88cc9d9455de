"""The stream of training scenes: in which order, in which colours, and by whom."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from sparse_detr_deploy.training.batches import SceneStream, normalised, targets_of
from sparse_detr_deploy.training.scenes import Scene, SceneSpec

SPEC = SceneSpec(height=96, width=128)
SIZE = 16


class Source:
    """Scenes that hold their index: in every channel another multiple of it, and as the label of their one object."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, index: int) -> Scene:
        self.made.append(index)
        image = np.zeros((2, 2, 3), np.uint8)
        image[:] = (index, 50 + index, 100 + index)
        return Scene(image, np.array([[0, 0, 32, 48]], np.float32), np.array([index]))


def stream(seed: int = 0, rank: int = 0, workers: int = 1, source: Source | None = None) -> SceneStream:
    return SceneStream(source or Source(), SPEC, seed, SIZE, rank, workers)


def indices(scenes: SceneStream, start: int, count: int) -> list[int]:
    return scenes.batch(start, count).targets.labels[:, 0].tolist()


def test_a_pass_shows_every_scene_once_from_a_place_of_the_seed() -> None:
    # 2741 = 171 · 16 + 5
    for seed, first in ((0, 0), (1, 5), (3, 15)):
        assert indices(stream(seed), 0, SIZE) == [(first + step) % SIZE for step in range(SIZE)]


def test_every_pass_has_another_order() -> None:
    scenes = stream()
    passes = [indices(scenes, epoch * SIZE, SIZE) for epoch in range(4)]
    assert all(sorted(order) == list(range(SIZE)) for order in passes)
    assert passes[1] == [step * 7 % SIZE for step in range(SIZE)]
    assert passes[2] == [step * 11 % SIZE for step in range(SIZE)]
    assert indices(scenes, 10 * SIZE, SIZE) == passes[0]  # ten strides


def test_a_sample_follows_from_the_seed_and_its_number_alone() -> None:
    whole, part = stream(1).batch(0, 3 * SIZE), stream(1).batch(20, 4)
    assert torch.equal(part.images, whole.images[20:24])
    assert part.name == f"scenes {[label for label in part.targets.labels[:, 0].tolist()]} of seed 1"


def test_workers_share_out_what_one_would_take() -> None:
    alone = indices(stream(), 6, 6)
    shares = [indices(stream(rank=rank, workers=3), 6, 6) for rank in range(3)]
    assert shares == [alone[0::3], alone[1::3], alone[2::3]]


def test_each_scene_is_made_once() -> None:
    source = Source()
    scenes = stream(source=source)
    for epoch in range(3):
        scenes.batch(epoch * SIZE, SIZE)
    assert Counter(source.made) == dict.fromkeys(range(SIZE), 1)


def test_colours_change_after_the_first_pass_and_nothing_else() -> None:
    scenes = stream()
    mean, std = (np.array(values) * 255 for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    orders = []
    for sample in range(4 * SIZE):
        images = scenes.batch(sample, 1).images[0].permute(1, 2, 0).numpy()
        pixels = np.rint(images * std + mean).astype(int)
        assert (pixels == pixels[0, 0]).all()
        orders.append(tuple(pixels[0, 0] // 50))
        assert len(set(pixels[0, 0] % 50)) == 1
    assert set(orders[:SIZE]) == {(0, 1, 2)}
    assert len(set(orders[SIZE:])) == 6


def test_images_are_normalised_as_the_backbone_expects() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[1, 2] = (255, 51, 102)
    found = normalised([image, image])
    assert found.shape == (2, 3, 2, 3)
    assert found.dtype == torch.float32
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert found[1, :, 0, 0].tolist() == pytest.approx(black, rel=1e-6)
    coloured = [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.4 - 0.406) / 0.225]
    assert found[0, :, 1, 2].tolist() == pytest.approx(coloured, rel=1e-5)


def test_boxes_are_of_the_image_whatever_its_sides() -> None:
    scene = Source()(3)
    empty = Scene(scene.image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    moved = Scene(scene.image, scene.boxes + np.float32([64, 24, 64, 24]), scene.labels)
    found = targets_of([scene, empty, moved], SPEC)
    assert found.counts == (1, 0, 1)
    assert found.boxes[[0, 2], 0].tolist() == [[0.125, 0.25, 0.25, 0.5], [0.625, 0.5, 0.25, 0.5]]
