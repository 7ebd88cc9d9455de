"""Latency, multiply-adds and accuracy against the keep ratio, as a picture for a README."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.picture_mark import check_replaceable_picture, plot_metadata
from sparse_detr_deploy.benchmarks.results import Report, Row
from sparse_detr_deploy.benchmarks.table import common, place
from sparse_detr_deploy.cli_support import printable
from sparse_detr_deploy.errors import BackendError, InputError

FORMATS = ("png", "svg", "pdf")
_SHOWN = " "  # before a label, because legends leave out those that begin with an underscore


def check_plot(path: Path) -> None:
    """Raise where no plot can be made for ``path``: :class:`InputError` by its suffix, :class:`OutputError` where a
    foreign file is there, :class:`BackendError` without matplotlib."""
    if path.suffix.lower()[1:] not in FORMATS:
        raise InputError(f"{path}: a plot is written as {', '.join('.' + name for name in FORMATS)}; change the suffix")
    check_replaceable_picture(path)
    _pyplot()


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise BackendError("matplotlib is not installed: pip install 'sparse-detr-deploy[bench]'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def draw_plot(report: Report, path: Path, image_format: str) -> None:
    """Write two panels: p50 latency (whiskers to p90) and GMACs against ρ; where AP was measured, also AP against ρ and
    against latency. Dense artefacts are horizontal lines, and one point where latency is across."""
    pyplot = _pyplot()
    with pyplot.rc_context():
        pyplot.rcdefaults()  # a matplotlibrc of the working directory has no say
        _draw(pyplot, report, path, image_format)


def _draw(pyplot: Any, report: Report, path: Path, image_format: str) -> None:
    accurate = any(_precision(row) is not None for row in report.rows)
    rows_of_panels = 2 if accurate else 1
    figure, grid = pyplot.subplots(
        rows_of_panels, 2, figsize=(10, 4.2 * rows_of_panels), layout="constrained", squeeze=False
    )
    latency, complexity = panels = list(grid[0])
    if accurate:
        panels.append(grid[1][0])
        _draw_accuracy(report, grid[1][0], grid[1][1])
    for index, (name, rows) in enumerate(_series(report).items()):
        label = _SHOWN + printable(name)
        color, ratios = f"C{index}", [row.rho for row in rows]
        medians = [row.statistics().p50 for row in rows]
        above = [row.statistics().p90 - row.statistics().p50 for row in rows]
        gmacs = [row.gmacs for row in rows]
        if ratios[0] is None:
            for panel, values in ((latency, medians), (complexity, gmacs)):
                if values[0] is not None:
                    panel.axhline(values[0], color=color, linestyle="--", label=label)
            continue
        # open squares on dots: where files per ρ and one file for all lie on each other, both are seen
        style: dict[str, Any] = {"marker": "o", "linestyle": "-"}
        if rows[0].dynamic_rho:
            style |= {"marker": "s", "linestyle": ":", "markerfacecolor": "none", "markersize": 10}
        latency.errorbar(ratios, medians, [[0] * len(rows), above], color=color, capsize=3, label=label, **style)
        if None not in gmacs:
            complexity.plot(ratios, gmacs, color=color, label=label, **style)
    latency.set_ylabel("inference of one batch, p50 (whisker: p90) [ms]")
    complexity.set_ylabel("multiply-adds of one image [10⁹]")
    for panel in panels:
        panel.set_xlabel("keep ratio ρ")
        panel.set_xlim(0, 1.02 if any((row.rho or 0) > 0.6 for row in report.rows) else 0.62)
        panel.margins(y=0.12)
        if panel in (latency, complexity):
            panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        _legend(panel)
    figure.suptitle(printable(", ".join(_shared(report))), fontsize=10, parse_math=False)
    figure.savefig(path, format=image_format, dpi=150, metadata=plot_metadata(image_format))
    pyplot.close(figure)


def _legend(panel: Any) -> None:
    """What the lines are, their names as they are: ``$`` begins no formula."""
    if panel.get_legend_handles_labels()[0]:
        for text in panel.legend(fontsize=8).get_texts():
            text.set_text(text.get_text().removeprefix(_SHOWN))
            text.set_parse_math(False)


def _precision(row: Row) -> float | None:
    """AP at 0.50:0.95, where it was measured."""
    return (row.accuracy or {}).get("AP")


def _draw_accuracy(report: Report, against_ratio: Any, against_latency: Any) -> None:
    """AP against ρ, and the trade: AP against the time that it takes."""
    for index, (name, rows) in enumerate(_series(report).items()):
        label = _SHOWN + printable(name)
        measured = [row for row in rows if _precision(row) is not None]
        precisions = [_precision(row) for row in measured]
        style: dict[str, Any] = {"color": f"C{index}", "marker": "o", "label": label}
        if rows[0].dynamic_rho:
            style |= {"marker": "s", "linestyle": ":", "markerfacecolor": "none", "markersize": 10}
        against_latency.plot([row.statistics().p50 for row in measured], precisions, **style)
        if rows[0].rho is not None:
            against_ratio.plot([row.rho for row in measured], precisions, **style)
        elif precisions:
            against_ratio.axhline(precisions[0], color=f"C{index}", linestyle="--", label=label)
    for panel in (against_ratio, against_latency):
        panel.set_ylabel("AP (COCO, 0.50:0.95)")
        panel.grid(alpha=0.3)
    against_latency.set_xlabel("inference of one batch, p50 [ms]")
    against_latency.set_xlim(left=0)


def _series(report: Report) -> dict[str, list[Row]]:
    """Rows that make one line, by its label, in ascending order of ρ: files that differ in ρ only, or one dynamic file.

    The label says what the title cannot because it differs between the rows.
    """
    shared = _shared(report)
    series: dict[str, list[Row]] = defaultdict(list)
    for row in report.rows:
        kind = "dense" if row.rho is None else "one file for every ρ" if row.dynamic_rho else "one file per ρ"
        family = row.name if row.dynamic_rho else re.sub(r"(?<=rho)\d[\d.]*", "NN", row.name)
        own = [text for text in _circumstances(report, row) if text not in shared]
        series[", ".join([f"{family} ({kind})", *own])].append(row)
    return {label: sorted(line, key=lambda row: row.rho or 0) for label, line in series.items()}


def _shared(report: Report) -> list[str]:
    """Those circumstances that all rows share."""
    return [
        text
        for texts in zip(*(_circumstances(report, row) for row in report.rows), strict=True)
        for text in common(texts)
    ]


def _circumstances(report: Report, row: Row) -> tuple[str, str]:
    return place(report, row), f"batch {row.batch}"
