"""Which single faults are planted: a choice of cosmic-ray's operators, and some of our own in its interface.

cosmic-ray replaces an operator by each of the others, which is mostly a ``TypeError`` that any test finds (``text << 3``):
only replacements that may pass unseen are taken. Its own faults lack what reviewers plant: arguments that are swapped or
left out, a clamp that is gone, a step that is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import cosmic_ray.plugins
import parso
from cosmic_ray.operators.operator import Example, Operator

Node = Any  # parso's nodes are not typed
Span = tuple[tuple[int, int], tuple[int, int]]

# a method whose call can be left out, and what remains is of the same type
_PASSING = {"clamp", "clip", "abs", "detach", "strip", "lower", "casefold", "resolve", "copy", "contiguous", "sigmoid"}
_PASSING |= {"sqrt", "flatten", "round", "floor", "ceil", "log", "exp", "float", "astype", "transpose", "softmax"}
# of two arguments in any order, or that refuse the other order at once
_SYMMETRIC = {"min", "max", "isinstance", "issubclass"}

_ARITHMETIC = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "FloorDiv": "Div", "Mod": "FloorDiv"}
_ARITHMETIC |= {"Pow": "Mul", "LShift": "RShift", "RShift": "LShift", "BitAnd": "BitOr", "BitOr": "BitAnd"}
_COMPARISONS = {"Eq": ["NotEq"], "NotEq": ["Eq"], "Lt": ["LtE", "GtE"], "LtE": ["Lt", "Gt"]}
_COMPARISONS |= {"Gt": ["GtE", "LtE"], "GtE": ["Gt", "Lt"], "Is": ["IsNot"], "IsNot": ["Is"]}
_OTHERS = ("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd")
_OTHERS += ("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer")
_OTHERS += ("ZeroIterationForLoop", "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not")


class _OnePlace(Operator):
    """Offers the same faults of a node in the same order to both methods of the interface."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        for place in self.places(node):
            yield place.start_pos, place.end_pos

    def places(self, node: Node) -> list[Node]:
        """Parts of ``node`` that can be changed."""
        raise NotImplementedError


class SwapArguments(_OnePlace):
    """Two neighbouring positional arguments change places."""

    def places(self, node: Node) -> list[Node]:
        return [first for first, _ in self._pairs(node)]

    def mutate(self, node: Node, index: int) -> Node:
        first, second = self._pairs(node)[index]
        i, j = node.children.index(first), node.children.index(second)
        first.get_first_leaf().prefix, second.get_first_leaf().prefix = (
            second.get_first_leaf().prefix,
            first.get_first_leaf().prefix,
        )
        node.children[i], node.children[j] = second, first
        return node

    @staticmethod
    def _pairs(node: Node) -> list[tuple[Node, Node]]:
        if not _is_call_arguments(node) or _called(node) in _SYMMETRIC:
            return []
        given = [child for child in node.children if child.type != "operator"]
        return [
            (first, second)
            for first, second in itertools.pairwise(given)
            if "argument" not in (first.type, second.type)
        ]

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f(a, b, c=1)", "f(b, a, c=1)"), Example("f(a, b, c)", "f(a, c, b)", occurrence=1))


class DropArgument(_OnePlace):
    """A keyword argument is left out; without a positional one most calls fail at once."""

    def places(self, node: Node) -> list[Node]:
        if not _is_call_arguments(node):
            return []
        return [child for child in node.children if child.type == "argument" and child.children[1] == "="]

    def mutate(self, node: Node, index: int) -> Node:
        place = self.places(node)[index]
        at = node.children.index(place)
        if at + 1 < len(node.children):  # its comma too
            node.children[at + 2 : at + 3] and _take_prefix(place, node.children[at + 2])
            del node.children[at : at + 2]
        else:
            del node.children[at - 1 : at + 1]
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f(a, axis=1)", "f(a)"), Example("f(k=1, axis=1)", "f(axis=1)"))


class DropClamp(_OnePlace):
    """``max(a, b)`` or ``min(a, b)`` becomes one of the two."""

    def places(self, node: Node) -> list[Node]:
        if (
            node.type != "atom_expr"
            or len(node.children) != 2
            or getattr(node.children[0], "value", "")
            not in (
                "min",
                "max",
            )
        ):
            return []
        arguments = node.children[1].children[1]
        if not _is_call_arguments(arguments):
            return []
        given = [child for child in arguments.children if child.type != "operator"]
        return given if len(given) == 2 and all(child.type != "argument" for child in given) else []

    def mutate(self, node: Node, index: int) -> Node:
        return _parsed(node, f"({self.places(node)[index].get_code(include_prefix=False)})")

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("x = max(a, 0)", "x = (a)"), Example("x = max(a, 0)", "x = (0)", occurrence=1))


class DropMethod(_OnePlace):
    """``a.clamp(min=0)`` becomes ``a``."""

    def places(self, node: Node) -> list[Node]:
        if node.type != "atom_expr":
            return []
        pairs = itertools.pairwise(node.children)
        found = [name for name, call in pairs if self._name(name) in _PASSING and _is_call(call)]
        return [name for name in found if name is not node.children[1] or not _is_module(node.children[0])]

    def mutate(self, node: Node, index: int) -> Node:
        at = node.children.index(self.places(node)[index])
        del node.children[at : at + 2]
        return node

    @staticmethod
    def _name(trailer: Node) -> str | None:
        if trailer.type != "trailer" or trailer.children[0].value != ".":
            return None
        return str(trailer.children[1].value)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("x = a.clamp(min=0).sum()", "x = a.sum()"),)


class DropStatement(_OnePlace):
    """A call, an augmented assignment or a ``raise`` is not made."""

    def places(self, node: Node) -> list[Node]:
        if node.type != "simple_stmt":
            return []
        statement = node.children[0]
        augmented = statement.type == "expr_stmt" and getattr(statement.children[1], "type", "") == "operator"
        augmented = augmented and len(statement.children[1].value) > 1
        called = statement.type == "atom_expr" and _is_call(statement.children[-1])
        raised = statement.type == "raise_stmt" or getattr(statement, "value", "") == "raise"
        return [statement] if augmented or called or raised else []

    def mutate(self, node: Node, index: int) -> Node:
        node.children[0] = _parsed(self.places(node)[index], "pass")
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f(x)\n", "pass\n"), Example("x += 1\n", "pass\n"), Example("raise E(x)\n", "pass\n"))


OWN: dict[str, type[Operator]] = {
    operator.__name__: operator for operator in (SwapArguments, DropArgument, DropClamp, DropMethod, DropStatement)
}


def operators() -> dict[str, Operator]:
    """Those that are used, by name."""
    names = [f"ReplaceBinaryOperator_{old}_{new}" for old, new in _ARITHMETIC.items()]
    names += [f"ReplaceComparisonOperator_{old}_{new}" for old, news in _COMPARISONS.items() for new in news]
    found = {name: cosmic_ray.plugins.get_operator(f"core/{name}")() for name in (*names, *_OTHERS)}
    return found | {name: operator() for name, operator in OWN.items()}


def _is_call(node: Node) -> bool:
    return node.type == "trailer" and node.children[0].value == "("


def _is_call_arguments(node: Node) -> bool:
    return (
        node.type == "arglist" and node.parent is not None and node.parent.type == "trailer" and _is_call(node.parent)
    )


def _called(arguments: Node) -> str | None:
    """Name of the function, where it is a bare one."""
    call = arguments.parent.parent
    return call.children[0].value if call.children[0].type == "name" and call.children[1] is arguments.parent else None


def _is_module(node: Node) -> bool:
    return node.type == "name" and node.value in ("np", "torch", "math", "cv2")


def _take_prefix(old: Node, new: Node) -> None:
    new.get_first_leaf().prefix = old.get_first_leaf().prefix


def _parsed(old: Node, code: str) -> Node:
    return parso.parse(old.get_first_leaf().prefix + code)
