"""Values that would end later code in RecursionError or OverflowError are refused."""

import pytest

from sparse_detr_deploy.plain_values import MOST_DEPTH, check_plain, parse_json


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_parses_what_json_does() -> None:
    assert parse_json('{"a": [1, -2.5, true, null, "x"], "b": {}}') == {"a": [1, -2.5, True, None, "x"], "b": {}}
    assert parse_json(f"[{2**64 - 1}, {-(2**63)}]") == [2**64 - 1, -(2**63)]
    parse_json(_nested(MOST_DEPTH + 1))


@pytest.mark.parametrize(
    "text",
    [
        *(_nested(depth) for depth in (MOST_DEPTH + 2, 900, 10**6)),
        '{"a":' * 900 + "1" + "}" * 900,
        str(2**64),
        f"[{-(2**63) - 1}]",
        '{"a": 1' + "0" * 400 + "}",
        "1" + "0" * 10_000,
        "",
        "{",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_json(text)


def test_what_holds_itself() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="deep"):
        check_plain(value)


def test_one_list_held_a_million_times_is_counted_as_such() -> None:
    value: object = [0] * 10
    for _ in range(20):
        value = [value] * 10
    with pytest.raises(ValueError, match="more than 1,000 values"):
        check_plain(value, most_values=1000)


@pytest.mark.parametrize("value", [{2**64: 1}, ({"a": {2**64}},), frozenset([2**70])])
def test_looks_into_every_container(value: object) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        check_plain(value)


def test_more_bits_where_they_are_allowed() -> None:
    assert parse_json("[1" + "0" * 30 + "]", most_bits=1000) == [10**30]
    for number in (2**1000, -(2**1000)):
        with pytest.raises(ValueError, match="more than 1000 bits"):
            parse_json(f"[{number}]", most_bits=1000)
