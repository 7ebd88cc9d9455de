"""``make demo``: the whole way on this machine, from a checkpoint to a table, a plot and a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparse_detr_deploy.benchmarks.cli import check_outputs, console_for_people, run_with_progress, write_outputs
from sparse_detr_deploy.cli_support import EXIT_CODES, reports_errors
from sparse_detr_deploy.errors import BackendError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sparse_detr_deploy.export.pipeline import ExportResult
    from sparse_detr_deploy.images import Image

RHOS = (0.1, 0.2, 0.3, 0.5)
_CAPTION = "random weights: the boxes mean nothing"


@click.command(epilog=EXIT_CODES)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="A trained sparse one; default: random weights.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/demo"), show_default=True)
@click.option("--size", default="480x640", show_default=True, help="Canvas, HEIGHTxWIDTH in pixels.")
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True)
@click.option(
    "--image", "image_path", type=click.Path(path_type=Path), help="Picture to detect in; default: synthetic."
)
@reports_errors
def main(checkpoint: Path | None, output: Path, size: str, rounds: int, image_path: Path | None) -> None:
    """Export a checkpoint at four keep ratios and as one dynamic file, verify, bench, and draw detections."""
    try:
        from sparse_detr_deploy.export.publish import check_output
        from sparse_detr_deploy.export.spec import parse_size
    except ModuleNotFoundError as error:
        raise BackendError(f"{error.name} is not installed: pip install 'sparse-detr-deploy[export,bench]'") from None
    from sparse_detr_deploy.benchmarks.running import RunSettings
    from sparse_detr_deploy.benchmarks.table import results_table
    from sparse_detr_deploy.images import read_image
    from sparse_detr_deploy.synthetic_image import synthetic_image

    started = time.monotonic()
    console = console_for_people()
    height, width = parse_size(size)
    image = synthetic_image(0, height, width) if image_path is None else read_image(image_path)
    tables = (output / "results.json", output / "results.csv", output / "plot.png")
    check_outputs(*tables)
    picture = output / "detections.png"
    check_output(picture, overwrite=True)

    exported = _export(checkpoint, output, height, width, console)
    paths = tuple(result.path for result in exported)
    report = run_with_progress(paths, RunSettings(keep_ratios=RHOS, warmup=1, rounds=rounds), console)
    write_outputs(report, *tables)
    _draw(paths[-1], image, picture, None if checkpoint else _CAPTION)
    console.print(results_table(report))
    console.print(
        f"written to {output}: artefacts, {', '.join(path.name for path in (*tables, picture))}", markup=False
    )
    if checkpoint is None:
        console.print(f"The checkpoint has {_CAPTION}. With a trained one: --checkpoint FILE.", markup=False)
    console.print(f"{time.monotonic() - started:.0f} s")


def _export(checkpoint: Path | None, output: Path, height: int, width: int, console: Console) -> list[ExportResult]:
    """One artefact for each of :data:`RHOS` and a dynamic one, the last."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from sparse_detr_deploy.export.checkpoint import load_checkpoint
    from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
    from sparse_detr_deploy.export.pipeline import export_artefacts
    from sparse_detr_deploy.export.random_weights import random_model
    from sparse_detr_deploy.export.spec import ExportSpec

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("making a checkpoint")
        if checkpoint is None:
            checkpoint = save_official_checkpoint(random_model("r50"), output / "r50_random_weights.pth")
        model = load_checkpoint(checkpoint)
        if not model.config.is_sparse:
            raise InputError(f"{checkpoint} has a dense encoder, so there is no ρ to show: give a sparse checkpoint")
        specs = [ExportSpec(height, width, rho=rho) for rho in RHOS]
        # the dynamic file first: its verification at ρ = 1 needs the most memory, and exports leave the heap larger
        dynamic, *fixed = export_artefacts(
            model,
            [ExportSpec(height, width, dynamic_rho=True), *specs],
            output,
            overwrite=True,
            progress=lambda message: bar.update(task, description=message),
        )
    exported = [*fixed, dynamic]
    for result in exported:
        found = result.verification
        console.print(
            f"verified {result.path.name}: scores within {found.score:.0e}, boxes within {found.box_pixels:.4f} pixels of torch",
            markup=False,
        )
    return exported


def _draw(artefact: Path, image: Image, path: Path, caption: str | None) -> None:
    """Write ``image`` with the ten best detections."""
    import cv2

    from sparse_detr_deploy.detector import Detector
    from sparse_detr_deploy.errors import OutputError
    from sparse_detr_deploy.export.publish import publish

    with Detector.load(artefact) as detector:
        drawn = detector(image)[:10].draw(image)
    if caption is not None:
        size = drawn.shape[1] / 1200
        place = (round(10 * size), drawn.shape[0] - round(14 * size))
        for color, thickness in (((0, 0, 0), 5), ((255, 255, 255), 2)):
            cv2.putText(drawn, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 1.1 * size, color, thickness, cv2.LINE_AA)
    encoded, data = cv2.imencode(".png", drawn)
    if not encoded:
        raise OutputError(f"{path} cannot be encoded as PNG")
    with publish(path, overwrite=True) as temporary:
        temporary.write_bytes(data.tobytes())


if __name__ == "__main__":
    main()
