"""``python -O`` drops assertions, so none may refuse input or have an effect: they are for type checkers alone."""

from __future__ import annotations

import ast

from tests.sources import package_sources


def _narrows(test: ast.expr) -> bool:
    """Whether it says no more than that a name is not ``None``, or of a type."""
    if isinstance(test, ast.Compare):
        (operator,), (other,) = test.ops, test.comparators
        return isinstance(operator, ast.IsNot) and isinstance(other, ast.Constant) and other.value is None
    return isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id == "isinstance"


def test_assertions_only_narrow_types() -> None:
    found = [
        (path, node)
        for path in package_sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert len(found) > 10
    assert [f"{path}:{node.lineno}" for path, node in found if not _narrows(node.test)] == []
