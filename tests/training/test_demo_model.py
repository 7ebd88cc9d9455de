"""The model that ships is a trained detector, small, in the official layout, with the config and log that made it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_detr_deploy.export.checkpoint import load_checkpoint
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.models import DIGITS_CLASSES, digits_checkpoint
from sparse_detr_deploy.training.batches import normalised
from sparse_detr_deploy.training.config import read_config
from sparse_detr_deploy.training.digits import CLASS_NAMES
from sparse_detr_deploy.training.evaluation import evaluate_scenes
from sparse_detr_deploy.training.scenes import Scene, render_scene

LOG = digits_checkpoint().with_name("digits.log.jsonl")
CONFIG = digits_checkpoint().with_name("digits.toml")


@pytest.fixture(scope="module")
def model() -> SparseDETR:
    return load_checkpoint(digits_checkpoint())


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Of the validation set."""
    return [render_scene(read_config(CONFIG).scenes, "val", 0, index) for index in range(40)]


def test_it_is_the_network_of_its_config_and_small(model: SparseDETR) -> None:
    config = read_config(CONFIG)
    assert model.config.to_dict() | {"refine_references": None} == config.model.to_dict()
    assert model.config.rho == 0.3
    assert model.config.num_classes == len(DIGITS_CLASSES)
    assert DIGITS_CLASSES == CLASS_NAMES
    assert digits_checkpoint().stat().st_size <= 8 * 2**20


@pytest.mark.committed
def test_the_shipped_config_is_the_one_that_the_command_takes() -> None:
    assert CONFIG.read_bytes() == Path("sparse_detr_deploy/training/configs/digits.toml").read_bytes()


@pytest.mark.committed
def test_the_log_is_of_a_whole_run() -> None:
    config = read_config(CONFIG)
    entries = [json.loads(line) for line in LOG.read_text().splitlines()]
    steps = {
        phase: max(entry["step"] for entry in entries if entry["phase"] == phase)
        for phase in ("pretraining", "training")
    }
    assert steps == {"pretraining": config.pretraining.steps, "training": config.training.steps}
    assert entries[-1]["val"]["AP"] >= 0.6


def test_it_finds_digits_it_has_never_seen_down_to_few_tokens(model: SparseDETR, scenes: list[Scene]) -> None:
    """Far from chance, so that a weight that is read wrongly shows; accuracy falls only when few tokens are left."""
    values = {ratio: evaluate_scenes(model, scenes, ratio).values["AP"] for ratio in (0.02, None, 1.0)}
    found = {ratio: value for ratio, value in values.items() if value is not None}
    assert found.keys() == values.keys()
    assert found[None] > 0.7
    assert found[0.02] < found[None]
    assert found[1.0] == pytest.approx(found[None], abs=0.05)


def test_the_kept_tokens_lie_on_the_digits(model: SparseDETR, scenes: list[Scene]) -> None:
    """The scoring network has learnt where to look: the best tokens are on objects far more often than by chance."""
    scenes = scenes[:20]
    with torch.no_grad():
        kept = model(normalised([scene.image for scene in scenes]), keep_ratio=0.05).selected_tokens
    side = 20  # tokens of the finest level across 160 pixels
    hits, chance, total = 0, 0.0, 0
    for scene, tokens in zip(scenes, kept, strict=True):
        covered = np.zeros((side, side), bool)
        for x1, y1, x2, y2 in scene.boxes:
            covered[int(y1 // 8) : int(-(-y2 // 8)), int(x1 // 8) : int(-(-x2 // 8))] = True
        finest = [int(token) for token in tokens if token < side * side]
        hits += sum(covered[token // side, token % side] for token in finest)
        chance += covered.mean() * len(finest)
        total += len(finest)
    assert hits / total > 0.6
    assert hits > 1.5 * chance
