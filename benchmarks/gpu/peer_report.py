"""The table of others' kernels in words: rows for people, and how far the goal is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ORIGINAL = ("original", "original_template_float16")
GOAL_ORIGINAL, GOAL_BEST = 3.0, 1.2
HALF_PRECISION = ("float16", "bfloat16")


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the attention rows in half precision: the least ratio to the original op, and to the best of the others.

    ``None`` where no row has such a peer. Kernel times alone: what the others need before is not counted.
    """
    original, best = [], []
    for row in rows:
        if row["op"] != "MSDeformAttn" or row["type"] not in HALF_PRECISION:
            continue
        ratios = {name: peer["ratio"] for name, peer in row["peers"].items() if "ratio" in peer}
        original += [ratios[name] for name in ORIGINAL[:1] if name in ratios]
        others = [ratio for name, ratio in ratios.items() if name not in ORIGINAL]
        best += [min(others)] if others else []
    return {
        "least_ratio_original": min(original, default=None),
        "goal_original": GOAL_ORIGINAL,
        "least_ratio_best_other": min(best, default=None),
        "goal_best_other": GOAL_BEST,
    }


def table_lines(report: Mapping[str, Any]) -> Iterable[str]:
    """A block for each row, one line for each contender."""
    for row in report["rows"]:
        size = (
            f"{row['queries']} queries"
            if "queries" in row
            else f"{row['kept']} of {row['tokens']}, batch {row['batch']}"
        )
        yield f"{row['op']} {row['case']} ({size}) {row['type']}: {row['us']:.2f} ± {row['noise_us']:.2f} µs"
        for name, peer in row["peers"].items():
            if "left_out" in peer:
                yield f"  {name}: left out: {peer['left_out']}"
                continue
            line = f"  {name}: {peer['us']:.2f} ± {peer['noise_us']:.2f} µs, ×{peer['ratio']:.2f}"
            if "prepare_us" in peer:
                line += f"; prepared by torch in {peer['prepare_us']:.2f} µs, together ×{peer['ratio_prepared']:.2f}"
            yield f"{line}; error {peer['error']:.1e}" + (f"; {peer['note']}" if "note" in peer else "")
    for entry in report["left_out"]:
        yield f"left out: {entry['row']}: {entry['reason']}"
    told = report["summary"]
    for key, goal, words in (
        ("least_ratio_original", "goal_original", "the original op (float32)"),
        ("least_ratio_best_other", "goal_best_other", "the best of the others"),
    ):
        ratio = "not measured" if told[key] is None else f"×{told[key]:.2f}"
        yield f"half precision, least ratio to {words}: {ratio} (goal ×{told[goal]})"


def print_table(report: Mapping[str, Any]) -> None:
    """Print all of it."""
    for line in table_lines(report):
        print(line)
