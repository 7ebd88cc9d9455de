"""Each operator does what its examples say."""

from __future__ import annotations

import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator

from tests.mutation.operators import OWN, operators

EXAMPLES = [(operator, example) for operator in OWN.values() for example in operator.examples()]


@pytest.mark.parametrize(("operator", "example"), EXAMPLES)
def test_examples(operator: type[Operator], example: Example) -> None:
    assert mutate_code(example.pre_mutation_code, operator(), example.occurrence) == example.post_mutation_code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SwapArguments", "max(a, b)"),
        ("SwapArguments", "f(a, b=1)"),
        ("SwapArguments", "f(a, *b)"),
        ("SwapArguments", "x = [a, b]"),
        ("DropArgument", "f(a, b)"),
        ("DropArgument", "f(a, *b)"),
        ("DropClamp", "max(a, b, c)"),
        ("DropClamp", "max(a, key=b)"),
        ("DropClamp", "numpy.max(a, 0)"),
        ("DropMethod", "np.abs(a)"),
        ("DropMethod", "x.lower"),
        ("DropStatement", "x = f()\n"),
        ("DropStatement", '"""A docstring."""\n'),
    ],
)
def test_what_stays_as_it_is(name: str, code: str) -> None:
    assert mutate_code(code, operators()[name], 0) is None


def test_arguments_on_several_lines() -> None:
    code = "f(\n    a,\n    k=1,\n    b=2,\n)\n"
    assert mutate_code(code, OWN["DropArgument"](), 0) == "f(\n    a,\n    b=2,\n)\n"
    assert mutate_code(code, OWN["DropArgument"](), 1) == "f(\n    a,\n    k=1,\n)\n"
