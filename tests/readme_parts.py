"""The parts of the READMEs that hold measured numbers, as they follow from the committed results.

``python -m tests.readme_parts`` writes them; ``test_readme.py`` holds the READMEs against them.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.paper.figures import FIGURES
from sparse_detr_deploy.benchmarks.paper.tables import markdown

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "cpu"
_FUSED = "ONNX Runtime, fused kernels"
_FLOOR = "ONNX Runtime, convolutions and matrix products alone"
_SAME = "ONNX Runtime, our session options"
_PEERS = {
    ("ours", _FUSED): "**ours**, ONNX Runtime",
    ("ours", "ONNX Runtime, function bodies"): "ours, ONNX Runtime without our kernel",
    ("ours", "OpenVINO"): "ours, OpenVINO (`--inline-functions`)",
    ("ours", "eager PyTorch"): "ours, eager PyTorch",
    ("original", "ONNX Runtime"): "original, naive export, ONNX Runtime",
    ("original", _SAME): "the same with our session options",
    ("original", "OpenVINO"): "original, naive export, OpenVINO",
    ("original", "eager PyTorch"): "original, eager PyTorch",
    ("transformers", "ONNX Runtime"): "Deformable DETR of `transformers`, ONNX Runtime",
    ("transformers", _SAME): "the same with our session options",
    ("floor", _FLOOR): "floor: convolutions and matrix products alone",
}


def _read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return values


def _mark(row: dict[str, Any]) -> str:
    return "\\*" if row["stability"]["verdict"] == "unstable" else ""


def demo() -> str:
    """Table of ``make demo``."""
    rows = _read("demo.json")["rows"]
    lines = [
        "| artefact | ρ | tokens kept | GMACs | latency p50 | p90 | FPS (mean) | AP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = row["statistics"]["inference"]
        cells = [f"`{row['name']}`", f"{row['rho']:g}", f"{row['kept']} of {row['tokens']}", f"{row['gmacs']:.3f}"]
        cells += [f"{times['p50_ms']:.1f} ms{_mark(row)}", f"{times['p90_ms']:.1f} ms", f"{times['fps']:.0f}"]
        lines.append(f"| {' | '.join([*cells, format(row['accuracy']['AP'], '.3f')])} |")
    slowest = max(max(row["samples_ms"]["inference"]) for row in rows)
    note = f"The machine was shared: single calls took up to {slowest:.0f} ms."
    if any(_mark(row) for row in rows):
        note += " \\* marks rows whose median changed by more than 5 % within the run (`unstable`)."
    return "\n".join([*lines, "", note])


def peers() -> str:
    """Table of ``make bench``."""
    measured = _read("peers.json")["rows"]
    rows = {(row["family"], row["runtime"], row["rho"]): row for row in measured if row["rho"] == row["group_rho"]}
    lines = ["| ms (peak MiB) | ρ 0.1 | ρ 0.3 | dense |", "|---|---|---|---|"]
    for (family, runtime), label in _PEERS.items():
        cells = []
        for rho in (0.1, 0.3, None):
            row = rows.get((family, runtime, rho))
            cells.append(f"{row['statistics']['p50_ms']:.0f}{_mark(row)} ({row['peak_memory_mib']:.0f})" if row else "")
        lines.append(f"| {' | '.join([label, *cells])} |")
    return "\n".join(lines)


def peers_text() -> str:
    """What the table of ``make bench`` comes to."""
    results = _read("peers.json")
    found = {(entry["ours"].rsplit(", ", 1)[1], entry["other"]): entry for entry in results["ratios"]}
    ratios = ("ρ 0.1", "ρ 0.3", "dense")

    def against(other: str, key: str = "speedup") -> list[float]:
        return [found[ratio, f"{other}, {ratio}"][key] for ratio in ratios]

    def spread(values: list[float], form: str) -> str:
        return ", ".join(f"{format(value, form)}" for value in values)

    floor = [entry["floor_ms"] / entry["ours_ms"] for entry in results["floor"]]
    median = {
        (row["family"], row["runtime"], row["rho"]): row["statistics"]["p50_ms"]
        for row in results["rows"]
        if row["rho"] == row["group_rho"]
    }

    def gain(family: str, runtime: str) -> float:
        return float(median[family, runtime, None] / median[family, runtime, 0.1])

    own = found["ρ 0.1", f"ours, {_FUSED}, dense"]["speedup"]
    options = " (the same file with our session options: " + spread(against(f"original, {_SAME}"), ".2f") + ")"
    return (
        f"Ratios of medians at ρ 0.1, ρ 0.3 and dense. The original formulation in ONNX Runtime takes "
        f"{spread(against('original, ONNX Runtime'), '.2f')} times our time{options} and we take "
        f"{spread([100 * value for value in against('original, ONNX Runtime', 'memory')], '.0f')} % of its memory; in OpenVINO it "
        f"takes {spread(against('original, OpenVINO'), '.2f')} times our time, and our own file in OpenVINO "
        f"{spread(against('ours, OpenVINO'), '.2f')} times. The convolutions and matrix products alone (the floor) are "
        f"{spread([100 * value for value in floor], '.0f')} % of our time.\n\n"
        f"Sparsity gains {own:.2f}× from dense to ρ 0.1, below the 2× that we aimed at: the floor alone would give "
        f"{gain('floor', _FLOOR):.2f}×, so the faster the attention, the smaller the gain; with the function bodies in stock ONNX "
        f"Runtime it is {gain('ours', 'ONNX Runtime, function bodies'):.2f}×."
    )


def _figure(name: str) -> str:
    return markdown(json.loads((PAPER / f"{name}.json").read_text(encoding="utf-8"))).rstrip()


PAPER = ROOT / "benchmarks" / "results" / "paper"
PARTS: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"demo": demo, "peers": peers, "peers text": peers_text},
    PAPER / "README.md": {figure.name: functools.partial(_figure, figure.name) for figure in FIGURES},
}


def filled(file: Path) -> str:
    """Text of ``file`` with every part as the results have it."""
    text = file.read_text(encoding="utf-8")
    for name, part in PARTS[file].items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{file} has not one part <!-- {name} -->, but {len(pattern.findall(text))}")
        text = pattern.sub(functools.partial(_between, part()), text)
    return text


def _between(new: str, found: re.Match[str]) -> str:
    return found[1] + new + found[2]


if __name__ == "__main__":
    for file in PARTS:
        file.write_text(filled(file), encoding="utf-8")
