"""A config that cannot be meant is refused before anything starts, with what is wrong and what is possible."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import pytest

from sparse_detr_deploy.errors import InputError, SparseDetrError
from sparse_detr_deploy.training.config import PhaseConfig, config_from, read_config
from sparse_detr_deploy.training.optimizer import learning_rate
from tests.training.conftest import MODEL, tiny_values

SHIPPED = Path("sparse_detr_deploy/training/configs")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_are_readable(path: Path) -> None:
    assert read_config(path).training.steps > 0


def test_there_are_shipped_configs() -> None:
    assert (SHIPPED / "digits.toml").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sead": 1}, "unknown keys in the file: sead; known: model, training"),
        ({"model": {**MODEL, "hiden_dim": 64}}, r"unknown keys in \[model\]: hiden_dim"),
        ({"training": {"batch_size": 4}}, r"missing in \[training\]: steps"),
        ({"training": {"steps": 2.5}}, "training.steps is 2.5, but int is needed"),
        ({"training": {"steps": True}}, "training.steps is True"),
        ({"training": 3}, "it is a section"),
        ({"scenes": {"objects": 3}}, "two whole numbers"),
        ({"training": {"steps": 3, "learning_rate": 0.0}}, "learning_rate"),
        ({"training": {"steps": 3, "decay_share": 1.5}}, "decay_share"),
        ({"saliency": "entropy"}, "not one of dam, objectness"),
        ({"saliency": "objectness", "model": {**MODEL, "rho": 0.0}}, "model is dense"),
        ({"model": {**MODEL, "rho": 0.0, "two_stage": False, "eff_query_init": False}}, "set model.two_stage"),
        ({"model": {**MODEL, "two_stage": False}}, "needs two_stage"),
        ({"model": {**MODEL, "num_classes": 91}}, "the scenes have 10"),
        ({"model": {**MODEL, "backbone": "vgg"}}, "backbone 'vgg'"),
        ({"model": {**MODEL, "num_feature_levels": 1}}, "several feature levels"),
        ({"workers": 3}, "training.batch_size 4 cannot be shared by 3 workers"),
        ({"workers": 0}, "workers is 0, but it must be 1 or more"),
        ({"device": "tpu"}, "not one of cpu, cuda"),
        ({"device": "cuda", "workers": 2}, "workers = 1"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"training": {"steps": 3, "train_images": 7 * 16}}, "train_images is 112"),
        ({"workers": 2, "training": {"steps": 300, "train_images": 9}}, r"training.train_images 9 is no multiple"),
        ({"training": {"steps": 3, "learning_rate": math.inf}}, "learning_rate is inf"),
        ({"training": {"steps": 3, "weight_decay": math.nan}}, "weight_decay is nan"),
        ({"training": {"steps": 199}}, "warm_up is 200 of 199 steps"),
        ({"seed": -1}, "seed is -1"),
        ({"val_seed": -1}, "val_seed is -1"),
        ({"scenes": {"height": 2**63, "width": 96}}, "scenes of 9223372036854775808×96 pixels"),
        ({"scenes": {"height": 0, "width": 96}}, "scenes of 0×96 pixels"),
        ({"scenes": {"objects": [1, 2**63]}}, "objects is 1 to 9223372036854775808, but there are at most 1000"),
        ({"training": {"steps": 2**63}}, "steps is 9223372036854775808, but it is at most"),
        ({"training": {"steps": 300, "batch_size": 2**40}}, "batch_size is 1099511627776"),
        ({"training": {"steps": 300, "train_images": 2**62}}, "train_images is"),
        ({"workers": 2**40}, "workers is"),
        ({"val_images": 2**62}, "val_images is"),
        ({"classes_first": 3}, "classes_first is 3 of the pretraining's 2 steps"),
        ({"model": {**MODEL, "nheads": 0}}, "nheads"),
        ({"model": {**MODEL, "dec_layers": 0}}, "dec_layers is 0"),
        ({"model": {**MODEL, "num_queries": 0}}, "num_queries is 0"),
        ({"model": {**MODEL, "rho": 0.0, "two_stage": False}}, "set model.two_stage"),
        ({"model": {**MODEL, "refine_references": False}}, "leave model.refine_references out"),
        ({"model": {**MODEL, "enc_layers": 1}}, "enc_layers is 1"),
        ({"model": {**MODEL, "eff_specific_head": False}}, "set model.eff_specific_head"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SparseDetrError, match=message):
        config_from(tiny_values(**changes))


def test_a_phase_that_is_left_out_forbids_nothing() -> None:
    phase = {"steps": 3, "warm_up": 0, "batch_size": 15, "train_images": 15}
    values = tiny_values(workers=3, training=phase)
    del values["pretraining"]
    assert config_from(values).workers == 3


@pytest.mark.parametrize("content", ["steps = ", "\x00", "[model]\nbackbone = 'swin-t'\n"])
def test_a_file_that_is_no_config_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"run\.toml"):
        read_config(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"seed = {10**400}", "more than 64 bits"),
        (f"[training]\nlearning_rate = {10**400}", "more than 64 bits"),
        (f"seed = {'[' * 5000}", "nested too deeply|nested more than"),
        (f"seed = {'[' * 100}{']' * 100}", "nested more than 64 deep"),
        (f"{'.'.join('a' * 100)} = 1", "nested more than 64 deep"),
        ("#" * (1 << 20) + "\n", "larger than 1,048,576 bytes"),
        (b"seed = '\xff'", "not UTF-8"),
    ],
    ids=["seed", "rate", "depth", "depth that TOML takes", "keys", "size", "bytes"],
)
def test_a_file_of_absurd_values(content: str | bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"run\.toml cannot be read \(.*({reason})"):
        read_config(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.toml")
    for path in (tmp_path / "run.toml", Path("/dev/zero")):
        with pytest.raises(InputError, match="not a regular file"):
            read_config(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "none.toml")


def test_the_learning_rate_rises_stays_and_falls() -> None:
    phase = PhaseConfig(steps=100, learning_rate=1.0, warm_up=10, decay_share=0.2)
    rates = [learning_rate(phase, step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(rates[10:81]) == {1.0}
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[80:]))
    assert 0 < rates[-1] < 0.01


def test_a_longer_run_is_the_same_until_it_decays() -> None:
    """So a run may be prolonged, or cut short, while it goes."""
    short, long = (PhaseConfig(steps=steps, learning_rate=1.0, decay_share=0.2) for steps in (1000, 2000))
    assert [learning_rate(short, step) for step in range(800)] == [learning_rate(long, step) for step in range(800)]
