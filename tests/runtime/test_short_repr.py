"""Values in messages stay short, whatever they are."""

from __future__ import annotations

import numpy as np
import pytest

from sparse_detr_deploy.short_repr import short_repr, shown_name


class Mute:
    def __repr__(self) -> str:
        raise ValueError


ITSELF: list[object] = []
ITSELF.append(ITSELF)
DOUBLED: list[object] = []
for _ in range(60):
    DOUBLED = [DOUBLED, DOUBLED]


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        "\x1b[31m\n\u202e" * 30,
        10**5000,
        -(10**400),
        float("nan"),
        ITSELF,
        DOUBLED,
        {"a" * 999: list(range(999))},
        b"\xff" * 999,
        np.zeros((100, 100)),
        Mute(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_is_short_and_printable(value: object) -> None:
    assert 1 < len(short_repr(value)) <= 80
    assert short_repr(value).isprintable()


@pytest.mark.parametrize("value", [None, True, 3, -2.5, "sine", [1, 2], {"a": 1}, ("x",)])
def test_a_small_value_is_its_own_repr(value: object) -> None:
    assert short_repr(value) == repr(value)


def test_names_are_quoted_only_where_they_are_odd() -> None:
    assert shown_name("transformer.encoder.layers.0.norm1.weight") == "transformer.encoder.layers.0.norm1.weight"
    assert shown_name("a\nb") == "'a\\nb'"
    assert len(shown_name("x" * 10**6)) <= 80
