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
    "--split", type=click.Choice(["val", "train"]), help="Which scenes --write-dataset writes.  [default: val]"
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="How many to write or evaluate; default: CONFIG's val_images, and of --split train its train_images.",
)
@click.option("--force", is_flag=True, help="--write-dataset writes over a split that is there.")
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

    _check_options(output=output, evaluate=evaluate, write_dataset=write_dataset, **options)
    shipped = _SHIPPED / f"{config}.toml"
    run = read_config(shipped if shipped.is_file() and not config.exists() else config)
    if write_dataset is not None:
        from sparse_detr_deploy.training.coco import write_dataset as write

        split, count, seed = options["split"] or "val", run.val_images, run.val_seed
        if split == "train":
            count, seed = max(run.training.train_images, run.pretraining.train_images), run.seed
        click.echo(write(write_dataset, run.scenes, split, options["images"] or count, seed, options["force"]))
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


def _check_options(**given: Any) -> None:
    """Refuse an option that what is asked for would not heed."""
    jobs = [name for name in ("evaluate", "write_dataset") if given[name] is not None]
    if len(jobs) > 1:
        raise InputError("--evaluate and --write-dataset are two things to do: give one of them")
    job = jobs[0] if jobs else "train"
    heeded = {"train": ["output"], "evaluate": ["images", "rho"], "write_dataset": ["split", "images", "force"]}
    for name in ("output", "split", "images", "force", "rho"):
        if given[name] and name not in heeded[job]:
            uses = " or ".join(f"--{key.replace('_', '-')}" for key in heeded if name in heeded[key] and key != "train")
            raise InputError(f"--{name} is of {uses or 'training'}: leave it out, or ask for that")


if __name__ == "__main__":
    main()
