"""Every run of runs.toml is a possible training, and differs from its base in what it is there to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparse_detr_deploy.benchmarks.paper.figures import FIGURES
from sparse_detr_deploy.benchmarks.paper.runs import PRETRAINING, read_runs, run_config
from sparse_detr_deploy.errors import InputError

RUNS = read_runs()


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_possible(name: str) -> None:
    config = run_config(RUNS[name], 3, Path("scenes"), Path("backbone.pth"))
    assert (config.seed, config.dataset, config.backbone_weights) == (3, "scenes", "backbone.pth")
    assert (config.training.steps > 0) == (name != PRETRAINING)


def test_runs_differ_in_what_their_names_say() -> None:
    configs = {name: run_config(values, 0, Path("s"), None) for name, values in RUNS.items() if name != PRETRAINING}
    assert {name: config.model.rho for name, config in configs.items() if "rho" in name} == {
        f"{saliency}_rho{percent:02d}": percent / 100 for saliency in ("dam", "os") for percent in (5, 10, 30, 50)
    }
    assert {name for name, config in configs.items() if config.saliency == "objectness"} == {
        name for name in configs if name.startswith("os_")
    }
    assert {name for name, config in configs.items() if not config.model.use_enc_aux_loss} == {
        f"enc{depth}_without_auxiliary" for depth in (3, 6, 9)
    }
    assert configs["enc9_auxiliary"].model.enc_layers == configs["enc9_without_auxiliary"].model.enc_layers == 9
    assert not configs["learned_queries"].model.two_stage
    assert not configs["dense"].model.is_sparse
    schedules = {config.training for config in configs.values()}
    assert len(schedules) == 1


def test_every_run_is_in_a_figure() -> None:
    asked: set[str] = set()

    class Asked(dict[str, list[dict[str, object]]]):
        def __missing__(self, name: str) -> list[dict[str, object]]:
            asked.add(name)
            return []

    for figure in FIGURES:
        figure.lines(Asked())
    assert asked == set(RUNS) - {PRETRAINING}


def test_a_run_with_an_unknown_key() -> None:
    with pytest.raises(InputError, match=r"unknown keys in the file: rho"):
        run_config({**RUNS["dam_rho30"], "rho": 0.3}, 0, Path("s"), None)
