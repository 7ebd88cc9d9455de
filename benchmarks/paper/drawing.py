"""Pictures of the paper's figures in small."""

from __future__ import annotations

from pathlib import Path

from sparse_detr_deploy.benchmarks.paper.figures import Figure, Line


def draw(figure: Figure, lines: list[Line], path: Path) -> None:
    """Write ``lines`` as a PNG: means over the seeds, with a band from lowest to highest. Without an x axis: bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, panel = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for index, line in enumerate(lines):
        places = [point.x for point in line.points]
        means = [point.mean for point in line.points]
        low, high = ([pick(point.values.values()) for point in line.points] for pick in (min, max))
        color = f"C{index}"
        if figure.x:
            marker = "o" if len(places) < 10 else None
            panel.plot(places, means, marker=marker, color=color, label=line.label)
            panel.fill_between(places, low, high, color=color, alpha=0.15)
        else:
            reach = [[means[0] - low[0]], [high[0] - means[0]]]
            panel.bar(line.label, means, yerr=reach, color=color, capsize=5, width=0.5)
    panel.set_title(figure.title, fontsize=10)
    panel.set_xlabel(figure.x)
    panel.set_ylabel(figure.y)
    panel.grid(alpha=0.3)
    if figure.x:
        panel.legend(fontsize=8)
    canvas.savefig(path, format="png", dpi=130)
    pyplot.close(canvas)
