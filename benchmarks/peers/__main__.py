"""``python -m sparse_detr_deploy.benchmarks.peers``: ours side by side with what else runs such a detector on a CPU."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparse_detr_deploy.benchmarks.peers.settings import Settings
from sparse_detr_deploy.cli_support import EXIT_CODES, console_for_people, printable, progress_line, reports_errors
from sparse_detr_deploy.errors import BackendError

if TYPE_CHECKING:
    from rich.table import Table

    from sparse_detr_deploy.benchmarks.peers.comparing import Row

MARK = ".sparse-detr-peers.json"


@click.command(epilog=EXIT_CODES)
@click.option(
    "--original", type=click.Path(path_type=Path), help="Checkout of kakaobrain/sparse-detr; else it is left out."
)
@click.option("--size", default="800x1066", show_default=True, help="Canvas, HEIGHTxWIDTH in pixels.")
@click.option("--rho", "rhos", multiple=True, type=float, default=(0.1, 0.3), show_default=True, help="Besides dense.")
@click.option("--threads", default=2, show_default=True, help="Threads of every entry.")
@click.option("--rounds", default=15, show_default=True, help="Timed calls of each entry.")
@click.option("--eager-rounds", default=3, show_default=True, help="Timed calls of eager PyTorch; 0 leaves it out.")
@click.option("--warmup", default=3, show_default=True, help="Calls before, not timed.")
@click.option("--seed", default=0, show_default=True, help="Of the random weights.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results here.")
@click.option("--force", is_flag=True, help="Write over results that are there.")
@click.option(
    "--work", type=click.Path(path_type=Path), help="Folder for the exported files [default: a temporary one]."
)
@click.option("--reuse", is_flag=True, help="With --work: take exported files that are there as they are.")
@reports_errors
def main(**options: Any) -> None:
    """Compare ours with the original formulation, OpenVINO and Deformable DETR of transformers on the CPU.

    All in float32, batch 1, one image, round-robin. What is not installed or given is left out, and the results say so.
    """
    from sparse_detr_deploy.benchmarks.output_files import check_suffix
    from sparse_detr_deploy.export.publish import check_output, publish
    from sparse_detr_deploy.export.spec import parse_size

    height, width = parse_size(options["size"])
    names = ("threads", "rounds", "eager_rounds", "warmup", "seed", "original")
    rhos = tuple(dict.fromkeys(options["rhos"]))
    settings = Settings(height, width, rhos, **{name: options[name] for name in names})
    json_path: Path | None = options["json_path"]
    if json_path is not None:
        check_suffix(json_path, ".json", "--json")
        check_output(json_path, options["force"])
    if settings.original is not None:
        from sparse_detr_deploy.benchmarks.peers.checkout import check_checkout

        check_checkout(settings.original)
    console = console_for_people()
    with _work_folder(options["work"]) as folder, _progress() as say:
        for results, table in _compare(settings, folder, options["reuse"], say):
            if json_path is not None:  # after each keep ratio: what is measured stays when a later one fails
                with publish(json_path, overwrite=True) as temporary:
                    temporary.write_text(results, encoding="utf-8")
            console.print(table)


def _compare(settings: Settings, folder: Path, reuse: bool, say: Callable[[str], None]) -> Iterator[tuple[str, Table]]:
    """After each keep ratio the JSON text of all that is measured so far, and the table of this ratio."""
    try:
        from sparse_detr_deploy.benchmarks.environment import load_average
        from sparse_detr_deploy.benchmarks.peers.comparing import check_agreement, measure, profile_ours
        from sparse_detr_deploy.benchmarks.peers.preparing import Preparation
        from sparse_detr_deploy.benchmarks.peers.report import document, table, to_json
    except ImportError as error:
        raise BackendError(f"{error.name} is not installed: pip install 'sparse-detr-deploy[export,bench]'") from None

    prepared = Preparation(settings, folder, reuse, say)
    agreements = check_agreement(settings, prepared, say)
    profiles = profile_ours(settings, prepared, say)
    start = load_average()
    rows: list[Row] = []
    for group in measure(settings, prepared, say):
        for row in group:
            row.agreement = agreements.get(row.entry.title) or None
        rows += group
        results = document(settings, prepared, rows, profiles, [start, load_average()])
        yield to_json(results), table(group, settings)
    for text in prepared.left_out:
        click.echo(printable(f"left out: {text}"), err=True)


@contextlib.contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    if given is None:
        with tempfile.TemporaryDirectory(prefix="peers_") as folder:
            yield Path(folder)
        return
    from sparse_detr_deploy.export.owned_folder import check_owned, mark_owned

    check_owned(given, MARK, "--work")  # the names of our files are those of sparse-detr-export
    mark_owned(given, MARK)
    yield given


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    console = console_for_people()
    if not console.is_terminal:
        yield lambda message: click.echo(printable(message), err=True)
        return
    with progress_line(console) as say:
        yield say


if __name__ == "__main__":
    main()
