"""``sparse-detr-train``: exit codes, messages, and results on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.training.cli import main
from tests.training.conftest import MODEL

TINY = """
val_images = 2
[model]
{model}
[scenes]
height = 96
width = 96
sizes = [12, 48]
[training]
steps = 1
warm_up = 0
batch_size = 2
train_images = 4
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in MODEL.items())
    path.write_text(TINY.format(model=model))
    return path


def test_train_then_evaluate_at_several_keep_ratios(config: Path, tmp_path: Path) -> None:
    trained = CliRunner().invoke(main, [str(config), "--output", str(tmp_path / "run")])
    assert trained.exit_code == 0, trained.output
    checkpoint = tmp_path / "run" / "checkpoint.pth"
    assert str(checkpoint) in trained.stdout
    evaluated = CliRunner().invoke(main, [str(config), "--evaluate", str(checkpoint), "--rho", "0.1", "--rho", "1"])
    assert evaluated.exit_code == 0, evaluated.output
    results = [json.loads(line) for line in evaluated.stdout.splitlines()]
    assert [result["rho"] for result in results] == [0.1, 1.0]
    assert all(0 <= result["AP"] <= 1 and result["images"] == 2 for result in results)


def test_an_objectness_run_is_evaluated_but_not_exported(config: Path, tmp_path: Path) -> None:
    by_scoring_network = config.with_name("dam.toml")
    by_scoring_network.write_text(config.read_text())
    config.write_text('saliency = "objectness"\n' + config.read_text())
    trained = CliRunner().invoke(main, [str(config), "--output", str(tmp_path / "run")])
    assert trained.exit_code == 0, trained.output
    checkpoint = tmp_path / "run" / "checkpoint.pth"
    evaluated = CliRunner().invoke(main, [str(config), "--evaluate", str(checkpoint)])
    assert evaluated.exit_code == 0, evaluated.output
    assert 0 <= json.loads(evaluated.stdout)["AP"] <= 1
    refused = CliRunner().invoke(main, [str(by_scoring_network), "--evaluate", str(checkpoint)])
    assert refused.exit_code == 3
    assert "selects its tokens by objectness" in refused.stderr


def test_another_checkpoint_is_no_objectness_run(config: Path, tiny_checkpoint: Path) -> None:
    config.write_text('saliency = "objectness"\n' + config.read_text())
    result = CliRunner().invoke(main, [str(config), "--evaluate", str(tiny_checkpoint)])
    assert result.exit_code == 3
    assert "does not fit the config" in result.stderr


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_a_checkpoint_with_other_classes_is_not_evaluated(
    config: Path, tiny_model: SparseDETR, tiny_checkpoint: Path
) -> None:
    result = CliRunner().invoke(main, [str(config), "--evaluate", str(tiny_checkpoint)])
    assert result.exit_code == 2
    assert "5 classes" in result.stderr


def test_two_things_at_once(config: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(config), "--evaluate", "x.pth", "--write-dataset", str(tmp_path / "data")])
    assert result.exit_code == 2
    assert "one of them" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rho", "0.1"], "--rho is of --evaluate"),
        (["--images", "3"], "--images is of --evaluate or --write-dataset"),
        (["--split", "val"], "--split is of --write-dataset"),
        (["--evaluate", "x.pth", "--output", "run"], "--output is of training"),
        (["--evaluate", "x.pth", "--force"], "--force is of --write-dataset"),
    ],
)
def test_an_option_that_would_do_nothing(arguments: list[str], message: str, config: Path) -> None:
    result = CliRunner().invoke(main, [str(config), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
