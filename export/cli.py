"""``sparse-detr-export``: a trained checkpoint to verified ONNX files."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparse_detr_deploy.cli_support import EXIT_CODES, reports_errors
from sparse_detr_deploy.errors import BackendError, InputError

if TYPE_CHECKING:
    from sparse_detr_deploy.export.pipeline import ExportResult
    from sparse_detr_deploy.export.spec import ExportSpec
    from sparse_detr_deploy.modeling import ModelConfig, SparseDETR


@click.command(epilog=EXIT_CODES)
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option("--rho", "rhos", multiple=True, help="Keep ratio in (0, 1] or 'dynamic'; repeat for several files.")
@click.option("--size", default="800x1066", show_default=True, help="Canvas, HEIGHTxWIDTH in pixels.")
@click.option("--batch", default="1", show_default=True, help="Batch size, or smallest:usual:largest.")
@click.option("--padded", is_flag=True, help="Images may be smaller than the canvas (adds the input image_sizes).")
@click.option("--outputs", type=click.Choice(["detections", "raw"]), default="detections", show_default=True)
@click.option("--num-detections", default=100, show_default=True, help="Detections per image.")
@click.option("--uint8-input", is_flag=True, help="Take uint8 pixels and normalise inside the graph.")
@click.option("--inline-functions", is_flag=True, help="Standard ops only (for OpenVINO).")
@click.option("--class-names", type=click.Path(path_type=Path), help="Text file, a name a line, or a JSON list.")
@click.option(
    "--verify-images", type=click.Path(path_type=Path), help="Verify on the images of this folder (the first 16)."
)
@click.option("--architecture", type=click.Choice(["r50", "swint"]), help="With --random-weights, for benchmarks.")
@click.option("--random-weights", type=int, metavar="SEED", help="Random weights in place of a checkpoint.")
@click.option("--dense", is_flag=True, help="With --random-weights: a dense encoder.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout.")
@reports_errors
def main(**options: Any) -> None:
    """Export CHECKPOINT to one verified ONNX file for each --rho (default: the one it was trained with)."""
    _check_installation()
    from sparse_detr_deploy.export.spec import parse_batch, parse_rho, parse_size

    height, width = parse_size(options["size"])
    batch = parse_batch(options["batch"])
    rhos = [parse_rho(text) for text in options["rhos"]]
    names = _read_class_names(options["class_names"])
    model = _model(options)
    specs = _specs(model.config, rhos, height, width, batch, names, options)
    results = _export(model, specs, options)
    if options["as_json"]:
        click.echo(json.dumps([result.to_dict() for result in results], indent=2))
    _print_table(results)


def _check_installation() -> None:
    for package in ("torch", "onnx", "onnxscript", "onnxruntime", "rich"):
        if importlib.util.find_spec(package) is None:
            raise BackendError(f"{package} is not installed: pip install 'sparse-detr-deploy[export]'")


def _model(options: dict[str, Any]) -> SparseDETR:
    """The network of the checkpoint, or one with random weights."""
    random = options["architecture"] is not None or options["random_weights"] is not None
    if random == (options["checkpoint"] is not None):
        raise InputError("give either a CHECKPOINT or --architecture with --random-weights SEED")
    if options["dense"] and not random:
        raise InputError("--dense belongs to --random-weights: a checkpoint tells itself whether it is dense")
    from sparse_detr_deploy.export.checkpoint import load_checkpoint
    from sparse_detr_deploy.export.random_weights import random_model

    if not random:
        return load_checkpoint(options["checkpoint"])
    if options["architecture"] is None or options["random_weights"] is None:
        raise InputError("--architecture and --random-weights belong together")
    return random_model(options["architecture"], options["random_weights"], rho=0.0 if options["dense"] else 0.3)


def _specs(
    config: ModelConfig,
    rhos: list[float | None],
    height: int,
    width: int,
    batch: tuple[int, int, int],
    names: tuple[str, ...] | None,
    options: dict[str, Any],
) -> list[ExportSpec]:
    from sparse_detr_deploy.export.spec import ExportSpec

    choices: list[tuple[float | None, bool]] = [(rho, rho is None) for rho in dict.fromkeys(rhos)]
    if not choices:
        choices = [(config.rho if config.is_sparse else None, False)]
    return [
        ExportSpec(
            height,
            width,
            rho=rho,
            dynamic_rho=dynamic,
            batch=batch,
            padded=options["padded"],
            outputs=options["outputs"],
            num_detections=options["num_detections"],
            uint8_input=options["uint8_input"],
            inline_functions=options["inline_functions"],
            class_names=names,
        )
        for rho, dynamic in choices
    ]


def _export(model: SparseDETR, specs: list[ExportSpec], options: dict[str, Any]) -> list[ExportResult]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from sparse_detr_deploy.export.pipeline import export_artefacts
    from sparse_detr_deploy.export.verification import read_verification_images

    console = Console(stderr=True)
    images = None
    if options["verify_images"] is not None:
        images = read_verification_images(
            options["verify_images"], lambda text: click.echo(f"left out: {text}", err=True)
        )
        if not images:
            raise InputError(f"{options['verify_images']} holds no readable image")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting")
        return export_artefacts(
            model,
            specs,
            options["output"],
            options["force"],
            images,
            lambda message: bar.update(task, description=message),
        )


def _read_class_names(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the class names {path} cannot be read ({error})") from None
    if text.lstrip().startswith(("[", "{")):
        try:
            names = json.loads(text)
        except ValueError as error:
            raise InputError(f"the class names {path} are not a JSON list ({error})") from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"the class names {path} are JSON, but not a list of strings (one for each label, from 0)")
        return tuple(names)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines:
        raise InputError(f"the class names {path} are empty: give one name a line, from label 0 on")
    if "" in lines:
        raise InputError(
            f"the class names {path} have nothing on line {lines.index('') + 1}, and the names after it would move: "
            "write N/A for a label that is not used"
        )
    return tuple(lines)


def _print_table(results: list[ExportResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Verified and written")
    for heading in ("file", "tokens", "kept", "MB", "Δ score", "Δ box (px)", "sha256"):
        table.add_column(heading, justify="left" if heading in ("file", "sha256") else "right")
    for result in results:
        metadata, report = result.metadata, result.verification
        kept = metadata.num_keep()
        table.add_row(
            str(result.path),
            str(metadata.token_count),
            "any" if metadata.dynamic_rho else str(metadata.token_count if kept is None else kept),
            f"{result.path.stat().st_size / 1e6:.0f}",
            f"{report.score:.1e}" if metadata.outputs == "detections" else f"{report.raw:.1e} raw",
            f"{report.box_pixels:.4f}" if metadata.outputs == "detections" else "",
            result.sha256[:12],
        )
    Console(stderr=True, width=None if sys.stderr.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
