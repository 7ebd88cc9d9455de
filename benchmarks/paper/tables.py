"""Tables of the paper's figures in small, in Markdown."""

from __future__ import annotations

from typing import Any

_ROWS = 8


def markdown(document: dict[str, Any]) -> str:
    """A table of a figure's JSON document: a row for each x (of long lines every few), a column for each line.

    Cells are the mean over the seeds and, where there are several, lowest to highest.
    """
    lines = document["lines"]
    labels = [line["label"] for line in lines]
    if not document["x"]:
        rows = [[label, _cell(line["points"][0])] for label, line in zip(labels, lines, strict=True)]
        return _table(["", document["y"]], rows)
    places = sorted({point["x"] for line in lines for point in line["points"]})
    every = -(-len(places) // _ROWS)
    shown = [place for index, place in enumerate(places) if (len(places) - 1 - index) % every == 0]
    points = [{point["x"]: point for point in line["points"]} for line in lines]
    rows = [[f"{place:g}", *(_cell(line[place]) if place in line else "" for line in points)] for place in shown]
    return _table([document["x"], *labels], rows)


def _cell(point: dict[str, Any]) -> str:
    mean = f"{point['mean']:.3f}"
    return mean if len(point["by_seed"]) == 1 else f"{mean} ({point['min']:.3f}–{point['max']:.3f})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    ruled = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in ruled)
