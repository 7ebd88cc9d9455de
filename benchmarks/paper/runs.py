"""The runs of ``runs.toml``: which there are, and the training config of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_detr_deploy.training.config import TrainingConfig, config_from, read_toml

FILE = Path(__file__).with_name("runs.toml")
PRETRAINING = "pretraining"


def read_runs(file: Path = FILE) -> dict[str, dict[str, Any]]:
    """Content of a training config for each run, by name; the one that all start from is ``pretraining``.

    Raises:
        InputError: the file cannot be read.
    """
    values = read_toml(file)
    base = values["base"]
    return {
        name: _merged(base, changes) for name, changes in {PRETRAINING: values[PRETRAINING], **values["runs"]}.items()
    }


def run_config(values: dict[str, Any], seed: int, dataset: Path, backbone: Path | None) -> TrainingConfig:
    """The config of one run: on the scenes in ``dataset``, from the backbone of the checkpoint ``backbone``.

    Raises:
        InputError: the run has unknown keys or an impossible combination.
    """
    placed = {"seed": seed, "dataset": str(dataset), "backbone_weights": "" if backbone is None else str(backbone)}
    return config_from(_merged(values, placed))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged
