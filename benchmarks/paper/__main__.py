"""``python -m sparse_detr_deploy.benchmarks.paper WORK``: train, evaluate and draw the paper's experiments in small."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sparse_detr_deploy.cli_support import EXIT_CODES, reports_errors
from sparse_detr_deploy.errors import BackendError, InputError


@click.command(epilog=EXIT_CODES)
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--seed", "seeds", type=click.IntRange(min=0), multiple=True, default=(0,), show_default=True)
@click.option("--only", multiple=True, help="Name of a run in runs.toml; default: all.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Runs side by side, a core each."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for the results of the runs, the figures and their data."
)
@click.option("--draw-only", is_flag=True, help="Train nothing: draw the figures of the results in --output anew.")
@reports_errors
def main(
    work: Path, seeds: tuple[int, ...], only: tuple[str, ...], jobs: int, output: Path | None, draw_only: bool
) -> None:
    """Carry out the runs in the folder WORK, or go on where they stopped, and print the figures' tables.

    All of them take about an hour for each seed on two cores.
    """
    try:
        from sparse_detr_deploy.benchmarks.paper.figures import check_results, write_figures, write_result
        from sparse_detr_deploy.benchmarks.paper.running import Laboratory
        from sparse_detr_deploy.benchmarks.paper.runs import PRETRAINING, read_runs
        from sparse_detr_deploy.benchmarks.paper.tables import markdown
    except ModuleNotFoundError as error:
        raise BackendError(f"{error.name} is not installed: pip install 'sparse-detr-deploy[train,bench]'") from None
    runs = read_runs()
    names = [name for name in runs if name != PRETRAINING]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise InputError(f"no run is called {', '.join(unknown)}; there are {', '.join(names)}")
    if draw_only and output is None:
        raise InputError("--draw-only draws the results in a folder: give it as --output")
    if output is not None:
        check_results(output)
    if not draw_only:
        laboratory = Laboratory(work, runs, jobs, lambda message: click.echo(message, err=True))
        for result in laboratory.results((name, seed) for seed in seeds for name in only or names):
            if output is not None:
                write_result(result, output)
    if output is not None:
        for document in write_figures(output):
            click.echo(f"{document['title']} ({document['paper']}; {document['y']})\n\n{markdown(document)}")


if __name__ == "__main__":
    sys.exit(main())
