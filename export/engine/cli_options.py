"""The engine options of ``sparse-detr-export``: read, checked and carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparse_detr_deploy.engine_record import FLAVOURS
from sparse_detr_deploy.errors import InputError

if TYPE_CHECKING:
    from sparse_detr_deploy.export.engine.pipeline import EnginePipeline, EngineResult
    from sparse_detr_deploy.export.engine.spec import EngineSpec
    from sparse_detr_deploy.export.spec import ExportSpec
    from sparse_detr_deploy.modeling import ModelConfig

_ONLY_ENGINE = ("targets", "workspace", "self_contained", "allow_fallback")
# what may be given where the artefact exists already
FROM_ONNX = ("checkpoint", "output", "engine", *_ONLY_ENGINE, "force", "as_json")

_OPTIONS = (
    click.option("--engine", type=click.Choice(FLAVOURS), help="Build a TensorRT engine of each file as well."),
    click.option("--target", "targets", multiple=True, help="TensorRT-RTX: GPU to build for [sm89, sm120]; repeat."),
    click.option("--workspace", type=int, metavar="MIB", help="Most memory that the engine builder may use."),
    click.option("--self-contained", is_flag=True, help="TensorRT: put the plugin library into the engine."),
    click.option("--allow-fallback", is_flag=True, help="TensorRT: build without plugins where there are none."),
)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator that adds the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def engine_spec(options: dict[str, Any]) -> EngineSpec | None:
    """What the options say; ``None`` without ``--engine``. Raises :class:`InputError`."""
    from sparse_detr_deploy.export.engine.spec import EngineSpec

    if options["engine"] is None:
        given = [
            f"--{name.replace('_', '-').rstrip('s')}" for name in _ONLY_ENGINE if options[name] not in (None, (), False)
        ]
        if given:
            raise InputError(f"{' and '.join(given)} belong to an engine: give --engine {' or '.join(FLAVOURS)}")
        return None
    return EngineSpec(
        options["engine"],
        tuple(options["targets"]),
        options["workspace"],
        options["self_contained"],
        options["allow_fallback"],
    )


def check_engines(
    spec: EngineSpec, config: ModelConfig, specs: Sequence[ExportSpec], output: Path, force: bool
) -> None:
    """Refuse before the export what could not become an engine after it."""
    from sparse_detr_deploy.export.engine.publishing import check_pair
    from sparse_detr_deploy.export.engine.spec import check_form
    from sparse_detr_deploy.export.spec import artefact_name

    for export in specs:
        name = artefact_name(config, export)
        spec.check_sizes(
            config.num_queries if config.two_stage else None,
            export.num_detections if export.outputs == "detections" else None,
        )
        check_form(name, export.padded, export.dynamic_rho, export.batch)
        if export.inline_functions:
            raise InputError(
                "--inline-functions and --engine exclude each other: an engine needs the custom ops' calls"
            )
        check_pair(output / f"{name}.engine", force)


def is_artefact(options: dict[str, Any]) -> bool:
    """Whether an exported file was given in the place of a checkpoint."""
    return options["checkpoint"] is not None and options["checkpoint"].suffix == ".onnx"


def check_artefact_options(context: click.Context, options: dict[str, Any]) -> None:
    """Raise :class:`InputError` where options of an export were given with a file that is exported already."""
    source = click.core.ParameterSource.COMMANDLINE
    foreign = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in FROM_ONNX and context.get_parameter_source(parameter.name or "") is source
    ]
    if options["engine"] is None:
        raise InputError(f"{options['checkpoint']} is exported already: give --engine to build an engine of it")
    if foreign:
        raise InputError(
            f"{options['checkpoint']} is exported already, so {', '.join(foreign)} cannot be chosen any more"
        )


def open_pipeline(spec: EngineSpec) -> EnginePipeline:
    """Everything that building engines needs; raises :class:`BackendError` where this machine has it not."""
    from sparse_detr_deploy.export.engine.pipeline import EnginePipeline

    return EnginePipeline(spec)


def print_engines(results: Sequence[EngineResult], console: Any) -> None:
    """A table of what was built, for people."""
    from rich.table import Table

    table = Table(title="Engines")
    for heading in ("file", "for", "attention", "selection", "layers", "MB", "sha256"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    for result in results:
        record = result.record
        types = ", ".join(f"{count} {dtype.lower()}" for dtype, count in record.layer_types.items())
        size = f"{result.path.stat().st_size / 1e6:.0f}"
        chosen = (record.attention, record.selection, types, size, record.sha256[:12])
        table.add_row(str(result.path), ", ".join(record.targets), *chosen)
    console.print(table)
