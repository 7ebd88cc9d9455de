"""``sparse-detr-export``: a trained checkpoint to verified ONNX files and engines."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparse_detr_deploy.cli_support import EXIT_CODES, console_for_people, printable, progress_line, reports_errors
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.export.engine import cli_options, commands
from sparse_detr_deploy.export.engine.program import DefaultCommand, DefaultGroup

if TYPE_CHECKING:
    from sparse_detr_deploy.export.engine.pipeline import EnginePipeline, EngineResult
    from sparse_detr_deploy.export.pipeline import ExportResult
    from sparse_detr_deploy.export.spec import ExportSpec
    from sparse_detr_deploy.modeling import ModelConfig, SparseDETR


@click.group(cls=DefaultGroup)
def main() -> None:
    """The program: exports unless its first word is another command."""


@main.command(cls=DefaultCommand, epilog=EXIT_CODES)
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
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True)
@cli_options.engine_options
@click.option("--class-names", type=click.Path(path_type=Path), help="Text file, a name a line, or a JSON list.")
@click.option(
    "--verify-images", type=click.Path(path_type=Path), help="Verify on the images of this folder (the first 16)."
)
@click.option(
    "--architecture", type=click.Choice(["r50", "swint", "thin18"]), help="With --random-weights, for benchmarks."
)
@click.option("--random-weights", type=int, metavar="SEED", help="Random weights in place of a checkpoint.")
@click.option("--dense", is_flag=True, help="With --random-weights: a dense encoder.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout.")
@click.pass_context
@reports_errors
def export(context: click.Context, /, **options: Any) -> None:
    """Export CHECKPOINT to one verified ONNX file for each --rho (default: the one it was trained with).

    With --engine also build a TensorRT engine of each. Given an exported .onnx file, build its engine only.
    """
    exported: list[ExportResult] = []
    engines: list[EngineResult] = []
    try:
        if cli_options.is_artefact(options):
            cli_options.check_artefact_options(context, options)
            _check_installation("onnx", "rich")
            _build_engines([options["checkpoint"]], options, engines)
        else:
            _export_checkpoint(options, exported, engines)
    finally:  # what was published is told, even if a later file failed
        if options["as_json"] and (exported or engines):
            click.echo(json.dumps(_documents(exported, engines), indent=2))
        if exported:
            _print_table(exported)
        if engines:
            cli_options.print_engines(engines, console_for_people())


main.add_command(commands.plugins)
main.add_command(commands.doctor)


def _export_checkpoint(options: dict[str, Any], exported: list[ExportResult], engines: list[EngineResult]) -> None:
    """Export and build as ``options`` say; each result goes to the end of its list once it is published."""
    _check_installation("torch", "onnx", "onnxscript", "onnxruntime", "rich")
    from sparse_detr_deploy.export.class_names import read_class_names
    from sparse_detr_deploy.export.spec import parse_batch, parse_rho, parse_size

    height, width = parse_size(options["size"])
    batch = parse_batch(options["batch"])
    rhos = [parse_rho(text) for text in options["rhos"]]
    names = None if options["class_names"] is None else read_class_names(options["class_names"])
    engine = cli_options.engine_spec(options)
    pipeline = None if engine is None else cli_options.open_pipeline(engine)
    model = _model(options)
    specs = _specs(model.config, rhos, height, width, batch, names, options)
    if engine is not None:
        cli_options.check_engines(engine, model.config, specs, options["output"], options["force"])
    _export(model, specs, options, exported)
    if pipeline is not None:
        _build_engines([result.path for result in exported], options, engines, pipeline)


def _build_engines(
    files: list[Path], options: dict[str, Any], engines: list[EngineResult], pipeline: EnginePipeline | None = None
) -> None:
    if pipeline is None:
        engine = cli_options.engine_spec(options)
        assert engine is not None
        pipeline = cli_options.open_pipeline(engine)
    with progress_line(console_for_people()) as progress:
        for path in files:
            engines.append(pipeline.build(path, options["output"], options["force"], progress))


def _documents(exported: list[ExportResult], engines: list[EngineResult]) -> list[dict[str, Any]]:
    """What ``--json`` prints: a document for each file, its engine under ``engine`` where it was built."""
    documents = [result.to_dict() for result in exported] or [result.metadata.to_dict() for result in engines]
    for document, engine in zip(documents, engines, strict=False):
        document["engine"] = engine.to_dict()
    return documents


def _check_installation(*packages: str) -> None:
    for package in packages:
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
            precision=options["precision"],
        )
        for rho, dynamic in choices
    ]


def _export(model: SparseDETR, specs: list[ExportSpec], options: dict[str, Any], exported: list[ExportResult]) -> None:
    from sparse_detr_deploy.export.pipeline import export_artefacts
    from sparse_detr_deploy.export.verification import read_verification_images

    images = None
    if options["verify_images"] is not None:
        images = read_verification_images(
            options["verify_images"], lambda text: click.echo(printable(f"left out: {text}"), err=True)
        )
        if not images:
            raise InputError(f"{options['verify_images']} holds no readable image")
    with progress_line(console_for_people()) as progress:
        export_artefacts(model, specs, options["output"], options["force"], images, progress, exported.append)


def _print_table(results: list[ExportResult]) -> None:
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
    console_for_people().print(table)


if __name__ == "__main__":
    main()
