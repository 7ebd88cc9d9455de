"""The paper's figures in small: which results of which runs make each line."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sparse_detr_deploy.errors import InputError, OutputError
from sparse_detr_deploy.export.publish import check_replaced, publish
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_text

RUNS = "runs"
_MOST_BYTES = 1 << 26
_RATIOS = {"rho05": 0.05, "rho10": 0.1, "rho30": 0.3, "rho50": 0.5}
_DEPTHS = (3, 6, 9)

Results = dict[str, list[dict[str, Any]]]  # of every seed, by the run's name


@dataclasses.dataclass(frozen=True)
class Point:
    """``values`` holds what each seed gave at ``x``, by seed."""

    x: float
    values: dict[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.values.values()) / len(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with mean, lowest and highest."""
        values = self.values.values()
        extremes = {"min": min(values), "max": max(values)}
        return {"x": self.x, "mean": round(self.mean, 4), **extremes, "by_seed": self.values}


@dataclasses.dataclass(frozen=True)
class Line:
    """Points of one method; ones without a result are left out."""

    label: str
    points: list[Point]


@dataclasses.dataclass(frozen=True)
class Figure:
    """``lines`` makes the lines from the results there are; ``source`` names the paper's figure."""

    name: str
    title: str
    source: str
    x: str
    y: str
    lines: Callable[[Results], list[Line]]


def _precision(result: dict[str, Any], ratio: float | None = None) -> float:
    """AP at ``ratio``; without one, at the ratio that the run was trained with (a dense one has no other)."""
    trained = result["config"]["model"]["rho"] or None
    wanted = trained if ratio is None else ratio
    return float(next(entry["AP"] for entry in result["evaluation"] if entry["rho"] == wanted))


def _line(label: str, points: Iterable[tuple[float, list[dict[str, Any]], float | None]]) -> Line:
    """AP of the results at each x: (x, results of the seeds, keep ratio or the trained one)."""
    return Line(
        label,
        [
            Point(x, {found["seed"]: _precision(found, ratio) for found in results})
            for x, results, ratio in points
            if results
        ],
    )


def _saliency(results: Results) -> list[Line]:
    return [
        _line(label, [(ratio, results[f"{prefix}_{name}"], None) for name, ratio in _RATIOS.items()])
        for prefix, label in (("dam", "scoring network (DAM)"), ("os", "objectness score (OS)"))
    ]


def _correlation(results: Results) -> list[Line]:
    lines = []
    for name, ratio in (("rho10", 0.1), ("rho30", 0.3)):
        for prefix, label in (("dam", "DAM"), ("os", "OS")):
            by_step: dict[int, dict[int, float]] = defaultdict(dict)
            for found in results[f"{prefix}_{name}"]:
                for entry in found["log"]:
                    by_step[entry["step"]][found["seed"]] = entry["corr"]
            lines.append(Line(f"{label}, ρ = {ratio:g}", [Point(step, values) for step, values in by_step.items()]))
    return lines


def _auxiliary(results: Results) -> list[Line]:
    without = [(depth, results[f"enc{depth}_without_auxiliary"], None) for depth in _DEPTHS]
    # the three layers of the others' base
    names = {3: "dam_rho30", 6: "enc6_auxiliary", 9: "enc9_auxiliary"}
    return [
        _line("with the auxiliary loss", [(depth, results[names[depth]], None) for depth in _DEPTHS]),
        _line("without", without),
    ]


def _dynamic(results: Results) -> list[Line]:
    one = results["dam_rho30"]
    ratios = sorted({entry["rho"] for found in one for entry in found["evaluation"]})
    each = [(ratio, results[f"dam_{name}"], None) for name, ratio in _RATIOS.items()]
    return [
        _line("one model, trained at ρ = 0.3", [(ratio, one, ratio) for ratio in ratios]),
        _line("a model for each ρ (1: dense)", [*each, (1.0, results["dense"], None)]),
    ]


def _queries(results: Results) -> list[Line]:
    return [
        _line("top-k proposals", [(0, results["dense"], None)]),
        _line("learned", [(1, results["learned_queries"], None)]),
    ]


_AP = "AP (COCO, 0.50:0.95)"
FIGURES = (
    Figure(
        "saliency", "Which tokens: DAM against OS", "Fig. 4", "keep ratio ρ, in training and validation", _AP, _saliency
    ),
    Figure("correlation", "How well the selection meets the decoder", "Fig. 5", "training step", "Corr", _correlation),
    Figure("encoder_auxiliary", "Auxiliary loss in the encoder, ρ = 0.3", "Fig. 6", "encoder layers", _AP, _auxiliary),
    Figure("dynamic_sparsification", "One model for every ρ", "Fig. 7", "keep ratio ρ in validation", _AP, _dynamic),
    Figure("decoder_queries", "Decoder queries, dense encoder", "§3.4, top-k decoder queries", "", _AP, _queries),
)


def check_results(folder: Path) -> None:
    """Raise :class:`OutputError` where a file that is to be written would take the place of something else."""
    for figure in FIGURES:
        data, picture = _files(figure, folder)
        check_replaced(data, (".json",), '{"title":')
        if picture.exists() and not data.exists():
            raise OutputError(f"{picture} is there without {data.name}, so it is none of ours: choose another --output")


def _files(figure: Figure, folder: Path) -> tuple[Path, Path]:
    return folder / f"{figure.name}.json", folder / f"{figure.name}.png"


def write_result(result: dict[str, Any], folder: Path) -> Path:
    """Write one run's result to ``folder/runs``. Raises :class:`OutputError` where that is not possible."""
    path = folder / RUNS / f"{result['name']}_seed{result['seed']}.json"
    check_replaced(path, (".json",), f'{{"name": "{result["name"]}"')
    with publish(path, overwrite=True) as temporary:
        temporary.write_text(_json(result), encoding="utf-8")
    return path


def read_results(folder: Path) -> Results:
    """All results in ``folder/runs``.

    Raises:
        InputError: there are none, or one cannot be read.
    """
    found: Results = defaultdict(list)
    for path in sorted((folder / RUNS).glob("*.json")):
        try:
            result = parse_json(read_text(path, _MOST_BYTES))
            found[result["name"]].append(result)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no result of a run ({type(error).__name__}: {error})") from None
    if not found:
        raise InputError(f"there are no results of runs in {folder / RUNS}")
    return found


def write_figures(folder: Path) -> list[dict[str, Any]]:
    """Write ``<name>.json`` and ``<name>.png`` of every figure that has results in ``folder``; returns the former."""
    from sparse_detr_deploy.benchmarks.paper.drawing import draw

    results = read_results(folder)
    check_results(folder)
    written: list[dict[str, Any]] = []
    for figure in FIGURES:
        try:
            lines = [line for line in figure.lines(results) if line.points]
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise InputError(
                f"a result in {folder / RUNS} is damaged ({type(error).__name__}: {error}): carry out its run again"
            ) from None
        if not lines:
            continue
        document = _document(figure, lines)
        data, picture = _files(figure, folder)
        with publish(data, overwrite=True) as temporary:
            temporary.write_text(_json(document), encoding="utf-8")
        with publish(picture, overwrite=True) as temporary:
            draw(figure, lines, temporary)
        written.append(document)
    return written


def _document(figure: Figure, lines: list[Line]) -> dict[str, Any]:
    return {
        "title": figure.title,
        "paper": figure.source,
        "x": figure.x,
        "y": figure.y,
        "lines": [{"label": line.label, "points": [point.to_dict() for point in line.points]} for line in lines],
    }


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
