"""Names of files, models and machines come from anybody: tables, lines and plots show them as they are."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import re
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks import cli as bench_cli
from sparse_detr_deploy.benchmarks import plot
from sparse_detr_deploy.benchmarks.engine_timing import EngineResult, StageSamples, Throughput
from sparse_detr_deploy.benchmarks.gpu_clocks import ClockSamples
from sparse_detr_deploy.benchmarks.table import flops_table
from sparse_detr_deploy.cli_support import console_for_people, printable, progress_line, reports_errors
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export import cli as export_cli
from sparse_detr_deploy.export.engine import cli_options, commands, doctor
from tests.benchmarks.conftest import make_report, make_row
from tests.sources import package_sources

NAMES = (
    "[red]x[/red]",
    "a[/]b",
    "$x_{1$",
    "$a$_$b$",
    "_hidden",
    ":smile:",
    "two\nlines",
    "\x1b[2Jclear\x9b",
    "caf\udce9",
)
each_name = pytest.mark.parametrize("name", NAMES, ids=ascii)


def check_shown(name: str, text: str) -> None:
    """It is there whole, and what would drive a terminal is not."""
    for line in printable(name).splitlines():
        assert line in text
    assert "\x1b" not in text
    assert "\x9b" not in text


def test_printable() -> None:
    assert printable("a\nb\tρ 検出 é") == "a\nb\tρ 検出 é"
    assert printable("\x1b[31m\x00\x7f\x9b\r\udce9") == r"\x1b[31m\x00\x7f\x9b\r\udce9"


@each_name
def test_tables_of_a_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    spread = {"min": 1.0, "mean": 1.0, "max": 1.0}
    clocks = ClockSamples(2, *[spread] * 4, {name: 0.5})
    engine = EngineResult(StageSamples(*[[1.0] * 12] * 4), [Throughput(1, 9.0)], clocks, None)
    gpu = {"backend": "tensorrt", "device": name, "cuda_graphs": name}
    for rows in ([make_row(name=name)], [make_row(), make_row(runtime=gpu, engine=engine)]):
        bench_cli.print_tables(make_report(*rows), console_for_people())
        check_shown(name, capsys.readouterr().err)
    report = make_report(make_row(), cpu=name)  # its title
    report.settings["images"] = f"4 images of {name}"  # its caption
    bench_cli.print_tables(report, console_for_people())
    check_shown(f"images of {name}", capsys.readouterr().err)


@each_name
def test_table_of_a_comparison(name: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(make_report(make_row(name=name)).to_json(), encoding="utf-8")
    (tmp_path / "new.json").write_text(make_report(make_row(name=name), cpu=name).to_json(), encoding="utf-8")
    arguments = ["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"), "--json"]
    result = CliRunner().invoke(bench_cli.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    check_shown(f"now {name}"[:20], " ".join(result.stderr.split(" ")))  # the warning
    check_shown(name, result.stderr)
    assert json.loads(result.stdout)[0]["name"] == name


@each_name
def test_table_of_complexity(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = {"name": name, "rho": 0.3, "tokens": 9, "kept": 3, "gmacs": 1.0, "params": 1}
    console_for_people().print(flops_table([row]))
    check_shown(name, capsys.readouterr().err)


@each_name
def test_tables_of_an_export(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    path = Path(name) / "x.onnx"
    path.write_bytes(b"")
    metadata = types.SimpleNamespace(token_count=9, dynamic_rho=True, outputs="raw", num_keep=lambda: None)
    result: Any = types.SimpleNamespace(
        path=path, metadata=metadata, verification=types.SimpleNamespace(raw=0.0), sha256=name[:12]
    )
    export_cli._print_table([result])
    check_shown(name, capsys.readouterr().err)
    record = types.SimpleNamespace(
        layer_types={name: 1}, attention=name, selection=name, sha256=name[:12], targets=[name]
    )
    built: Any = types.SimpleNamespace(path=path, record=record)
    cli_options.print_engines([built], console_for_people(width=300))
    check_shown(name, capsys.readouterr().err)


@each_name
def test_findings_of_the_doctor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [doctor.Finding(name, state, f"found {name}", f"{state} {name}") for state in ("ok", "absent", "wrong")]
    monkeypatch.setattr(doctor, "examine", lambda onnx: findings)
    for option in ([], ["--json"]):
        result = CliRunner().invoke(commands.doctor, option, catch_exceptions=False)
        assert result.exit_code == 0
        if option:
            assert json.loads(result.stdout)[0]["subject"] == name
        else:
            check_shown(f"found {name}", result.stdout)


@each_name
def test_line_of_progress(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console, shown = console_for_people(), io.StringIO()
    console._force_terminal, console.is_interactive, console.file = True, True, shown
    with progress_line(console) as say:
        say(f"timing {name}")
        console.print(f"warning: {name}")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())  # without those of rich
    check_shown(f"timing {name}", text)
    check_shown(f"warning: {name}", text)


@each_name
def test_errors(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    @reports_errors
    def fail() -> None:
        raise InputError(f"{name} is not usable")

    with pytest.raises(SystemExit):
        fail()
    check_shown(f"{name} is not usable", capsys.readouterr().err)


@each_name
@pytest.mark.parametrize("image_format", ["svg", "png"])
def test_plots(name: str, image_format: str, tmp_path: Path) -> None:
    rows = [make_row(name=name, rho=rho) for rho in (0.1, 0.3)] + [make_row(name=f"{name}, dense", rho=None)]
    rows = [dataclasses.replace(row, accuracy={"AP": 0.5}) for row in rows]
    path = tmp_path / "plot"
    plot.draw_plot(make_report(*rows, cpu=name), path, image_format)
    if image_format == "svg":  # letters are shapes there, with the text beside them in comments
        comments = html.unescape(" ".join(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL)))
        check_shown(f"onnxruntime on {name} (all 2 threads), batch 1", comments)
        for label in (f"{name} (one file per ρ)", f"{name}, dense (dense)"):
            check_shown(label, comments)
            assert comments.count(printable(label).splitlines()[0]) >= 3  # a legend in each panel


def test_plots_do_not_follow_a_configuration_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # runs LaTeX
    monkeypatch.setitem(matplotlib.rcParams, "figure.dpi", 3000)
    plot.draw_plot(make_report(make_row()), tmp_path / "plot.png", "png")
    assert matplotlib.rcParams["text.usetex"]


def test_consoles_and_lines_of_progress_are_made_in_one_place() -> None:
    for path in package_sources():
        text = path.read_text(encoding="utf-8")
        assert path.name == "cli_support.py" or not re.search(r"\bConsole\(|from_markup|markup import", text), path
        assert path.name == "cli_support.py" or "rich.progress" not in text, path
