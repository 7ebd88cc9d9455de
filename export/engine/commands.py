"""``sparse-detr-export plugins`` and ``doctor``: need neither torch nor TensorRT."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from sparse_detr_deploy.cli_support import EXIT_CODES, console_for_people, reports_errors
from sparse_detr_deploy.errors import ArtefactError, BackendError, SparseDetrError


@click.group(epilog=EXIT_CODES)
def plugins() -> None:
    """The library of TensorRT plugins: build it, or tell where it is."""


@plugins.command(epilog=EXIT_CODES)
@click.option("--architectures", help="Compute capabilities, such as 89,120. Default: all from 75 on.")
@click.option("--force", is_flag=True, help="Build again what is there.")
@reports_errors
def build(architectures: str | None, force: bool) -> None:
    """Build the library into the user's cache and print its path. Needs nvcc, CMake and TensorRT's headers."""
    from sparse_detr_deploy.export.engine.plugin_build import build_plugins, parse_architectures

    chosen = parse_architectures(architectures)
    click.echo(os.fsencode(build_plugins(chosen, force, lambda what: click.echo(what, err=True))))


@plugins.command(epilog=EXIT_CODES)
@reports_errors
def path() -> None:
    """Print the path of the library that is used."""
    from sparse_detr_deploy.plugin_library import find_plugin_library

    found = find_plugin_library()
    if found is None:
        raise BackendError("there is no plugin library: 'sparse-detr-export plugins build' makes it")
    click.echo(os.fsencode(found))


@click.command(epilog=EXIT_CODES)
@click.argument("onnx", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on stdout.")
@click.option("--strict", is_flag=True, help="Leave with 7 if anything is absent or wrong.")
@reports_errors
def doctor(onnx: Path | None, as_json: bool, strict: bool) -> None:
    """What this machine has for exporting, building and running; with ONNX also whether it is as exported and fits TensorRT."""
    from sparse_detr_deploy.export.engine.doctor import DIGEST, GOOD, WRONG, examine

    findings = examine(onnx)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.subject == DIGEST and finding.state == WRONG for finding in findings):
        raise ArtefactError(f"{onnx} is not as it was exported: copy it again, or export it again")
    if strict and any(finding.state != GOOD for finding in findings):
        sys.exit(BackendError.exit_code)


def _print(findings: list[Any]) -> None:
    try:
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        raise SparseDetrError(
            "rich is not installed, and the table needs it: pip install rich, or give --json"
        ) from None
    colours = {"ok": "green", "absent": "red", "wrong": "red"}
    table = Table(title="sparse-detr-export doctor")
    for heading in ("", "state", "found", "mend"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.subject, state, finding.found, finding.mend)
    console_for_people(stderr=False).print(table)  # what was asked for, so on stdout
