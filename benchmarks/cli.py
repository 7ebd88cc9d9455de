"""``sparse-detr-bench``: exported artefacts measured against each other."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sparse_detr_deploy.cli_support import EXIT_CODES, console_for_people, printable, progress_line, reports_errors
from sparse_detr_deploy.errors import BackendError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sparse_detr_deploy.benchmarks.results import Report

_PATH = click.Path(path_type=Path)
_STDOUT = Path("-")


@click.group(epilog=EXIT_CODES)
def main() -> None:
    """Time, accuracy and complexity of detectors of the Sparse DETR family."""


@main.command(epilog=EXIT_CODES)
@click.argument("artefacts", nargs=-1, required=True, type=_PATH)
@click.option("--images", type=_PATH, help="Folder of images to time on; default: synthetic ones.")
@click.option("--annotations", type=_PATH, help="COCO file of images in that folder: measure AP too.")
@click.option("--json", "json_path", type=_PATH, help="Write results and raw samples here; - for stdout.")
@click.option("--csv", "csv_path", type=_PATH, help="Write the results as a table here.")
@click.option("--plot", "plot_path", type=_PATH, help="Draw latency, GMACs and AP against ρ here (.png, .svg, .pdf).")
@click.option("--keep-ratio", "keep_ratios", multiple=True, type=float, help="ρ of dynamic artefacts; repeat for rows.")
@click.option("--backend", type=click.Choice(["onnxruntime", "openvino"]), default="onnxruntime", show_default=True)
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one run; default: the backend's choice.")
@click.option("--device", type=click.IntRange(min=0), default=0, show_default=True, help="GPU that runs engines.")
@click.option("--cuda-graphs/--no-cuda-graphs", default=True, show_default=True, help="Engines: launch CUDA graphs.")
@click.option("--contexts", default="1,2,4", show_default=True, help="Engines: throughput of so many contexts at once.")
@click.option(
    "--allow-host-code", is_flag=True, help="Self-contained engines: run their plugins. Only of trusted ones."
)
@click.option("--batch", type=click.IntRange(min=1), help="Images of one call; default: each artefact's usual batch.")
@click.option("--warmup", type=click.IntRange(min=0), default=2, show_default=True, help="Rounds that are not counted.")
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Rounds that are counted.")
@reports_errors
def run(artefacts: tuple[Path, ...], **options: Any) -> None:
    """Time ARTEFACTS round-robin: one turn each per round, so that a change of the machine hits all alike.

    ARTEFACTS are .onnx files, which --backend runs, and .engine files, which bring their TensorRT.
    """
    from sparse_detr_deploy.benchmarks.run_options import run_settings

    source = click.get_current_context().get_parameter_source
    settings = run_settings(artefacts, options, [name for name in options if source(name) != ParameterSource.DEFAULT])
    outputs = [options[key] for key in ("json_path", "csv_path", "plot_path")]
    check_outputs(*outputs)
    console = console_for_people()
    reports: list[Report] = []
    try:
        reports.append(run_with_progress(artefacts, settings, console, reports.append))
    finally:  # also what a run that stopped before its end had measured
        for report in reports:
            print_tables(report, console)  # first, because files may fail
            write_outputs(report, *outputs)


def print_tables(report: Report, console: Console) -> None:
    """Results for people."""
    from sparse_detr_deploy.benchmarks.engine_table import engine_table
    from sparse_detr_deploy.benchmarks.table import results_table

    console.print(results_table(report))
    engines = engine_table(report.rows)
    if engines is not None:
        console.print(engines)


def check_outputs(json_path: Path | None, csv_path: Path | None, plot_path: Path | None) -> None:
    """Raise where one of the files cannot be written, or holds something else than results, before any work."""
    from sparse_detr_deploy.benchmarks.output_files import check_replaceable, check_suffix
    from sparse_detr_deploy.benchmarks.plot import check_plot
    from sparse_detr_deploy.export.publish import check_output

    named = [path for path in (json_path, csv_path, plot_path) if path is not None and path != _STDOUT]
    if len({path.resolve() for path in named}) < len(named):
        raise InputError("two of the outputs have one name: give each its own")
    if _STDOUT in (csv_path, plot_path):
        raise InputError("only --json can go to stdout (-): name a file")
    results = {".json": json_path, ".csv": csv_path}
    for suffix, path in results.items():
        if path is not None and path != _STDOUT:
            check_suffix(path, suffix, f"--{suffix[1:]}")
            check_replaceable(path, suffix)
    if plot_path is not None:
        check_plot(plot_path)
    for path in named:
        check_output(path, overwrite=True)


def run_with_progress(
    artefacts: tuple[Path, ...],
    settings: Any,
    console: Console,
    rescue: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Run with a line that says what is being done; ``rescue`` as :func:`~.running.run` has it."""
    from sparse_detr_deploy.benchmarks.running import run as run_benchmark

    # few refreshes: they are work for the processor that is being timed
    with progress_line(console, refresh_per_second=1) as progress:
        return run_benchmark(
            artefacts,
            settings,
            warn=lambda text: console.print(f"warning: {text}"),
            progress=progress,
            rescue=rescue,
        )


def write_outputs(report: Report, json_path: Path | None, csv_path: Path | None, plot_path: Path | None) -> None:
    """Write what is asked for; each file appears whole or not at all."""
    from sparse_detr_deploy.benchmarks.plot import draw_plot
    from sparse_detr_deploy.export.publish import publish

    if json_path == _STDOUT:
        click.echo(report.to_json(ensure_ascii=True), nl=False)
    for path, text in ((json_path, report.to_json), (csv_path, report.to_csv)):
        if path is not None and path != _STDOUT:
            with publish(path, overwrite=True) as temporary:
                temporary.write_text(text(), encoding="utf-8")
    if plot_path is not None:
        with publish(plot_path, overwrite=True) as temporary:
            draw_plot(report, temporary, plot_path.suffix.lower()[1:])


@main.command(epilog=EXIT_CODES)
@click.argument("artefact", type=_PATH)
@click.argument("checkpoint", type=_PATH)
@click.option("--images", type=_PATH, required=True, help="Folder of images; the first --count are drawn.")
@click.option("--count", type=click.IntRange(1, 16), default=4, show_default=True)
@click.option(
    "--keep-ratio", "keep_ratios", multiple=True, type=float, help="ρ of a dynamic artefact; repeat for more."
)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.4, show_default=True, help="Of drawn detections.")
@click.option("--output", type=_PATH, default=Path("picture.jpg"), show_default=True, help=".jpg or .png")
@reports_errors
def draw(artefact: Path, checkpoint: Path, images: Path, output: Path, **options: Any) -> None:
    """Draw what ARTEFACT detects and, below, the tokens that it keeps, as the network of its CHECKPOINT tells them."""
    try:
        from sparse_detr_deploy.benchmarks.picture import check_picture, draw_picture
        from sparse_detr_deploy.export.checkpoint import load_checkpoint
    except ModuleNotFoundError as error:
        raise BackendError(f"{error.name} is not installed: pip install 'sparse-detr-deploy[export]'") from None
    from sparse_detr_deploy.images import list_images, readable_images
    from sparse_detr_deploy.tokens import check_keep_ratio

    ratios = [check_keep_ratio(ratio) for ratio in options["keep_ratios"]]
    files = list_images(images)
    if output.resolve() in [file.resolve() for file in files]:
        raise InputError(f"{output} is one of the images: write the picture to another --output")
    check_picture(output)
    found = readable_images(files, lambda text: click.echo(printable(f"left out: {text}"), err=True))
    shown = [image for _, image in itertools.islice(found, options["count"])]
    draw_picture(artefact, load_checkpoint(checkpoint), shown, ratios, output, options["min_score"])
    click.echo(os.fsencode(output))


@main.command(epilog=EXIT_CODES)
@click.option("--architecture", type=click.Choice(["r50", "swint", "thin18"]), required=True)
@click.option("--size", default="800x1066", show_default=True, help="Canvas, HEIGHTxWIDTH in pixels.")
@click.option("--rho", "rhos", multiple=True, type=float, help="Keep ratio in (0, 1]; repeat for several rows.")
@click.option("--dense", is_flag=True, help="Add the dense models.")
@click.option(
    "--variant",
    type=click.Choice(["efficient", "deformable"]),
    help="Only this dense model: two-stage with box refinement, or plain Deformable DETR; default: both.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON on stdout.")
@reports_errors
def flops(
    architecture: str, size: str, rhos: tuple[float, ...], dense: bool, variant: str | None, as_json: bool
) -> None:
    """Multiply-adds and parameters of the published models, counted as in the paper."""
    from sparse_detr_deploy.tokens import check_keep_ratio

    ratios = [check_keep_ratio(rho) for rho in dict.fromkeys(rhos)]
    if not ratios and not dense:
        raise InputError("nothing to count: give --rho (it may be repeated) or --dense, or both")
    if variant and not dense:
        raise InputError("--variant says which dense model is meant: give --dense too")
    try:
        from sparse_detr_deploy.benchmarks.flops import VARIANTS, complexity_rows
        from sparse_detr_deploy.export.spec import parse_size
    except ModuleNotFoundError as error:
        raise BackendError(f"{error.name} is not installed: pip install 'sparse-detr-deploy[export]'") from None
    height, width = parse_size(size)
    variants = () if not dense else VARIANTS if variant is None else (variant,)
    rows = complexity_rows(architecture, height, width, ratios, variants)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        from sparse_detr_deploy.benchmarks.table import flops_table

        console_for_people().print(flops_table(rows))


@main.command(epilog=EXIT_CODES)
@click.argument("old", type=_PATH)
@click.argument("new", type=_PATH)
@click.option("--max-regression", default="5%", show_default=True, help="How much time and peak memory may grow.")
@click.option("--max-ap-drop", type=click.FloatRange(0, 1), default=0.001, show_default=True, help="AP is in 0..1.")
@click.option("--allow-missing", is_flag=True, help="Warn only of rows, AP and memory that OLD has and NEW lacks.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON on stdout.")
@reports_errors
def compare(old: Path, new: Path, max_regression: str, max_ap_drop: float, allow_missing: bool, as_json: bool) -> None:
    """Compare the results NEW with OLD (both written by run --json); exit code 8 where NEW is worse than allowed.

    What OLD has and NEW lacks is worse. Times that are not stable do not count, nor does AP on other images.
    """
    from sparse_detr_deploy.benchmarks.compare import Limits, check_regressions, parse_share
    from sparse_detr_deploy.benchmarks.compare import compare as compare_reports
    from sparse_detr_deploy.benchmarks.results import Report
    from sparse_detr_deploy.benchmarks.table import comparison_table

    limits = Limits(parse_share(max_regression), max_ap_drop, allow_missing)
    console = console_for_people()
    comparisons = compare_reports(
        Report.read(old), Report.read(new), limits, lambda text: console.print(f"warning: {text}")
    )
    if as_json:
        click.echo(json.dumps([comparison.to_dict() for comparison in comparisons], indent=2))
    console.print(comparison_table(comparisons))
    check_regressions(comparisons, limits)


if __name__ == "__main__":
    main()
