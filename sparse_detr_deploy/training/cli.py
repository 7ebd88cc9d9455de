"""``sparse-detr-train``: train a detector on rendered scenes of handwritten digits; write the scenes; evaluate."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import click

from sparse_detr_deploy.cli_support import EXIT_CODES, reports_errors
from sparse_detr_deploy.errors import BackendError, InputError

_SHIPPED = Path(__file__).parent / "configs"


@click.command(epilog=EXIT_CODES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the run; default: runs/<name of CONFIG>.")
@click.option(
    "--write-dataset",
    type=click.Path(path_type=Path),
    help="Do not train: write CONFIG's validation scenes into this folder, as val/*.png and val.json (COCO).",
)
@click.option(
    "--split", type=click.Choice(["val", "train"]), default="val", help="Which scenes --write-dataset writes."
)
@click.option("--images", type=click.IntRange(min=1), help="How many; default: CONFIG's val_images.")
@click.option(
    "--evaluate",
    type=click.Path(path_type=Path),
    help="Do not train: average precision of this checkpoint on CONFIG's validation scenes, as JSON.",
)
@click.option("--rho", type=float, multiple=True, help="Keep ratios of --evaluate; default: the trained one.")
@reports_errors
def main(config: Path, output: Path | None, evaluate: Path | None, write_dataset: Path | None, **options: Any) -> None:
    """Train what CONFIG describes, or go on where the run in the output folder stopped.

    CONFIG is a TOML file, or the name of a shipped one: digits.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        from sparse_detr_deploy.training.config import read_config
    except ModuleNotFoundError as error:
        raise BackendError(f"{error.name} is not installed: pip install 'sparse-detr-deploy[train]'") from None

    shipped = _SHIPPED / f"{config}.toml"
    run = read_config(shipped if shipped.is_file() and not config.exists() else config)
    if evaluate is not None and write_dataset is not None:
        raise InputError("--evaluate and --write-dataset are two things to do: give one of them")
    if write_dataset is not None:
        from sparse_detr_deploy.training.coco import write_dataset as write

        images = options["images"] or run.val_images
        seed = run.val_seed if options["split"] == "val" else run.seed
        click.echo(write(write_dataset, run.scenes, options["split"], images, seed))
    elif evaluate is not None:
        from sparse_detr_deploy.training.evaluation import evaluate_checkpoint

        for result in evaluate_checkpoint(evaluate, run, options["rho"], options["images"]):
            click.echo(json.dumps(result))
    else:
        from sparse_detr_deploy.training.trainer import train

        try:
            click.echo(train(run, output or Path("runs") / config.stem))
        except KeyboardInterrupt:
            click.echo("the same command goes on from the last state", err=True)
            raise


if __name__ == "__main__":
    main()
