"""Arguments of checkpoints: which types and sizes are taken, and as what."""

from __future__ import annotations

from typing import Any

import pytest

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export.inference import check_limits, checked_arguments

LIMITS = {
    "num_classes": (1, 100_000),
    "num_queries": (1, 100_000),
    "num_feature_levels": (1, 8),
    "hidden_dim": (32, 4096),
    "nheads": (1, 256),
    "enc_layers": (1, 64),
    "dec_layers": (1, 64),
    "dim_feedforward": (1, 65_536),
    "enc_n_points": (1, 64),
    "dec_n_points": (1, 64),
}


@pytest.mark.parametrize("name", LIMITS)
def test_sizes_that_a_network_can_have(name: str) -> None:
    least, most = LIMITS[name]
    for size in (least, most):
        check_limits({name: size})
        assert checked_arguments({name: size}) == {name: size}
    for size in (least - 1, most + 1):
        for check in (check_limits, checked_arguments):
            with pytest.raises(CheckpointError, match=f"{name} is {size}, but {least} to {most} is possible"):
                check({name: size})


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"two_stage": 1}, True),
        ({"two_stage": 0}, False),
        ({"dilation": True}, True),
        ({"nheads": 8.0}, 8),
        ({"rho": 1}, 1.0),
        ({"rho": 0.3}, 0.3),
        ({"backbone": "resnet50"}, "resnet50"),
        ({"lr": [1, 2]}, [1, 2]),
    ],
)
def test_values_of_the_right_kind(given: dict[str, Any], taken: Any) -> None:
    found = checked_arguments({**given, "num_queries": None})
    assert found == {next(iter(given)): taken}
    assert type(next(iter(found.values()))) is type(taken)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"two_stage": 2}, "bool"),
        ({"two_stage": -1}, "bool"),
        ({"two_stage": 1.0}, "bool"),
        ({"two_stage": "True"}, "bool"),
        ({"nheads": True}, "int"),
        ({"nheads": 8.5}, "int"),
        ({"nheads": "8"}, "int"),
        ({"rho": True}, "float"),
        ({"rho": "0.3"}, "float"),
        ({"backbone": 50}, "str"),
    ],
)
def test_values_of_another_kind(given: dict[str, Any], kind: str) -> None:
    ((name, value),) = given.items()
    with pytest.raises(CheckpointError, match=f"its argument {name} is {value!r}, but {kind} is needed"):
        checked_arguments(given)
