"""``make demo``: the whole way on this machine, from a trained checkpoint to a table, a plot and a picture."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparse_detr_deploy.benchmarks.cli import check_outputs, run_with_progress, write_outputs
from sparse_detr_deploy.cli_support import EXIT_CODES, console_for_people, progress_line, reports_errors
from sparse_detr_deploy.errors import BackendError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sparse_detr_deploy.export.pipeline import ExportResult
    from sparse_detr_deploy.modeling import SparseDETR

RHOS = (0.05, 0.1, 0.3, 0.5, 1.0)
SHOWN_RHOS = (0.3, 0.1)
MARK = ".sparse-detr-demo.json"
_SHOWN_IMAGES = 4
_LEAST_SCORE = 0.4


@click.command(epilog=EXIT_CODES)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="A sparse one of yours; default: the digit detector that comes with the toolkit.",
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of images; default: generated scenes of digits."
)
@click.option("--annotations", type=click.Path(path_type=Path), help="COCO file of these images: measure AP too.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/demo"), show_default=True)
@click.option("--size", help="Canvas, HEIGHTxWIDTH in pixels; default: 160x160, with --checkpoint 480x640.")
@click.option("--scenes", type=click.IntRange(min=1), default=200, show_default=True, help="Generated scenes.")
@click.option("--rounds", type=click.IntRange(min=1), default=40, show_default=True)
@reports_errors
def main(
    checkpoint: Path | None,
    images: Path | None,
    annotations: Path | None,
    output: Path,
    size: str | None,
    scenes: int,
    rounds: int,
) -> None:
    """Export a checkpoint at five keep ratios and as one dynamic file, verify, bench with AP, and draw detections.

    The output folder must be empty, or the one of an earlier demo, whose files are replaced.
    """
    if checkpoint is not None and images is None:
        raise InputError("--checkpoint needs --images FOLDER: the generated scenes are for the digit detector")
    if annotations is not None and images is None:
        raise InputError("--annotations needs --images FOLDER with the images that they are of")
    try:
        from sparse_detr_deploy.benchmarks.picture import draw_picture
        from sparse_detr_deploy.export.checkpoint import load_checkpoint
        from sparse_detr_deploy.export.owned_folder import check_owned, mark_owned
        from sparse_detr_deploy.export.publish import check_output
        from sparse_detr_deploy.export.spec import parse_size
        from sparse_detr_deploy.training.coco import check_dataset, write_dataset
        from sparse_detr_deploy.training.config import read_config
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{error.name} is not installed: pip install 'sparse-detr-deploy[export,bench,train]'"
        ) from None
    from sparse_detr_deploy.benchmarks.running import RunSettings
    from sparse_detr_deploy.benchmarks.table import results_table
    from sparse_detr_deploy.images import list_images, readable_images
    from sparse_detr_deploy.models import DIGITS_CLASSES, digits_checkpoint

    started = time.monotonic()
    console = console_for_people()

    def leave_out(text: str) -> None:
        console.print(f"left out: {text}", markup=False)

    check_owned(output, MARK, "--output")
    height, width = parse_size(size or ("160x160" if checkpoint is None else "480x640"))
    model = load_checkpoint(checkpoint or digits_checkpoint())
    if not model.config.is_sparse:
        raise InputError(f"{checkpoint} has a dense encoder, so there is no ρ to show: give a sparse checkpoint")
    tables = (output / "results.json", output / "results.csv", output / "plot.png")
    check_outputs(*tables)
    picture = output / "detections.jpg"
    check_output(picture, overwrite=True)
    if images is None:
        check_dataset(output / "scenes", "val", overwrite=True)
    mark_owned(output, MARK)
    if images is None:
        run = read_config(digits_checkpoint().with_suffix(".toml"))
        annotations = write_dataset(output / "scenes", run.scenes, "val", scenes, run.val_seed, overwrite=True)
        images = annotations.parent / "val"

    names = DIGITS_CLASSES if checkpoint is None else None
    exported = _export(model, output, height, width, images, names, console)
    paths = tuple(result.path for result in exported)
    settings = RunSettings(keep_ratios=RHOS, warmup=3, rounds=rounds, images=images, annotations=annotations)
    report = run_with_progress(paths, settings, console)
    write_outputs(report, *tables)
    console.print(results_table(report))
    shown = list(itertools.islice(readable_images(list_images(images), leave_out), _SHOWN_IMAGES))
    draw_picture(paths[-1], model, [image for _, image in shown], SHOWN_RHOS, picture, _LEAST_SCORE)
    console.print(
        f"written to {output}: artefacts, {', '.join(path.name for path in (*tables, picture))}", markup=False
    )
    console.print(f"{time.monotonic() - started:.0f} s")


def _export(
    model: SparseDETR,
    output: Path,
    height: int,
    width: int,
    images: Path,
    names: tuple[str, ...] | None,
    console: Console,
) -> list[ExportResult]:
    """One artefact for each of :data:`RHOS` and a dynamic one, the last; verified on the first images."""
    from sparse_detr_deploy.export.pipeline import export_artefacts
    from sparse_detr_deploy.export.spec import ExportSpec
    from sparse_detr_deploy.export.verification import read_verification_images

    def tell(text: str) -> None:
        console.print(f"left out: {text}", markup=False)

    with progress_line(console) as progress:
        progress("reading images")
        # the dynamic file first: its verification at ρ = 1 needs the most memory, and exports leave the heap larger
        ratios = [ExportSpec(height, width, rho=rho, class_names=names) for rho in RHOS]
        dynamic, *fixed = export_artefacts(
            model,
            [ExportSpec(height, width, dynamic_rho=True, class_names=names), *ratios],
            output,
            overwrite=True,
            images=read_verification_images(images, tell),
            progress=progress,
        )
    exported = [*fixed, dynamic]
    for result in exported:
        found = result.verification
        console.print(
            f"verified {result.path.name} on {found.images} images: scores within {found.score:.0e}, boxes within "
            f"{found.box_pixels:.4f} pixels of torch",
            markup=False,
        )
    return exported


if __name__ == "__main__":
    main()
