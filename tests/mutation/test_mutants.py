"""What is planted, and that a seed gives the same sample."""

from __future__ import annotations

import pytest

from tests.mutation.meaning import meaning
from tests.mutation.mutants import draw

SOURCE = '''"""Of 3 areas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a import b

__all__ = ["area" + "s"]
LIMIT: int | None = 4


def area(w: int | None, h: int) -> int | None:
    """Of 2 sides."""
    assert w is not None
    if w < h:
        raise ValueError(f"{w + 1} is less" + f" than {h}")
    return w * h
'''


def test_all_places() -> None:
    found = draw({"a.py": SOURCE}, 1000, 0)
    assert {(one.line, one.old.strip()) for one in found} == {
        (11, "LIMIT: int | None = 4"),
        (17, "if w < h:"),
        (18, 'raise ValueError(f"{w + 1} is less" + f" than {h}")'),
        (19, "return w * h"),
    }
    for one in found:
        assert one.code == SOURCE.replace(one.old, one.new)
        assert one.code != SOURCE


def test_a_seed_gives_the_same_sample() -> None:
    sources = {f"{name}.py": SOURCE for name in "abc"}
    first = draw(sources, 6, 5)
    assert len(first) == 6
    assert first == draw(dict(reversed(sources.items())), 6, 5)
    assert first != draw(sources, 6, 6)
    assert len({one.file for one in first}) > 1


def test_a_fault_of_several_lines() -> None:
    (one,) = [one for one in draw({"a.py": "f(\n    a,\n    b,\n)\n"}, 9, 0) if one.operator == "SwapArguments"]
    assert (one.line, one.old, one.new) == (2, "    a,\n    b,", "    b,\n    a,")
    assert str(one) == "a.py:2 SwapArguments\n-    a,\n-    b,\n+    b,\n+    a,"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Of 2 sides", "Of 3 sides"),
        ("h: int", "h: float"),
        ("-> int | None", "-> None"),
        ("LIMIT: int | None", "LIMIT: int"),
        ("{w + 1} is", "{w + 2} were"),
        ('"area" + "s"', '"areas"'),
        ("from a import b", "from a import c"),
        ("w is not None", "w is None"),
    ],
)
def test_what_means_the_same(old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    assert meaning(SOURCE.replace(old, new)) == meaning(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"), [("= 4", "= 5"), ("ValueError", "TypeError"), ("w < h", "w <= h"), ("w: int | None", "w=1")]
)
def test_what_does_not(old: str, new: str) -> None:
    source = SOURCE.replace("h: int", "h=1")
    assert source.count(old) == 1
    assert meaning(source.replace(old, new)) != meaning(source)


def test_promises_are_not_broken() -> None:
    code = "@dataclass(frozen=True)\nclass A:\n    x = zip(a, strict=True), open(a, encoding='utf-8')\n"
    assert draw({"a.py": code}, 9, 0) == []
    assert draw({"a.py": code.replace("frozen", "order")}, 9, 0) != []
