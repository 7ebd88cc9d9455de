"""Runs that stop before their end, and what a row says."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparse_detr_deploy.benchmarks import running
from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.benchmarks.contenders import Contender, line_up
from sparse_detr_deploy.benchmarks.memory import Peaks
from sparse_detr_deploy.benchmarks.results import Report
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.preprocessing import fitted_size
from tests.benchmarks.conftest import make_row
from tests.conftest import Export


def bench(*arguments: object) -> Result:
    command = ["run", "--threads=1", *map(str, arguments)]
    return CliRunner(env={"COLUMNS": "400"}).invoke(main, command, catch_exceptions=False)


@pytest.mark.parametrize(
    ("error", "exit_code", "mark"),
    [
        (KeyboardInterrupt(), 130, "interrupted: accuracy not measured"),
        (BackendError("out of memory"), 7, "stopped by an error (out of memory): accuracy not measured"),
    ],
)
def test_times_outlive_the_accuracy(
    error: BaseException,
    exit_code: int,
    mark: str,
    artefacts: dict[str, Path],
    images: Path,
    annotations: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stops(*arguments: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(running, "measure_accuracy", stops)
    monkeypatch.setattr(running, "peak_memory", lambda contender, runtime: Peaks(300.0))
    outputs = [f"--json={tmp_path / 'kept.json'}", f"--csv={tmp_path / 'kept.csv'}"]
    arguments = ["--images", images, "--annotations", annotations, "--rounds", 2, "--warmup", 0]
    result = bench(artefacts["fixed"], artefacts["dense"], *arguments, *outputs)
    assert result.exit_code == exit_code, result.output
    assert "p50" in result.stderr
    assert artefacts["dense"].stem in result.stderr
    report = Report.read(tmp_path / "kept.json")
    assert [(len(row.samples_ms.inference), row.accuracy) for row in report.rows] == [(2, None)] * 2
    assert report.left_out[-1] == mark
    assert "load_average_end" in report.environment
    assert len((tmp_path / "kept.csv").read_text().splitlines()) == 3


def test_without_psutil_nothing_is_measured(artefacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(running, "peak_memory", lambda *arguments: pytest.fail("it measures"))
    result = bench(artefacts["fixed"])
    assert result.exit_code == 7
    assert "psutil is not installed: pip install 'sparse-detr-deploy[bench]'" in result.stderr


def test_images_of_a_padded_file_keep_what_they_show(artefacts: dict[str, Path]) -> None:
    whole = read_metadata(artefacts["dynamic"])
    padded = dataclasses.replace(whole, padded=True)
    sizes = [(90, 120), (90, 30), (128, 160)]
    contender = Contender("x", artefacts["dynamic"], padded, "", 0.3, 1)
    row = running._row(contender, {"backend": "x"}, make_row().samples_ms, Peaks(1.0), None, None, sizes)
    counts = [padded.num_keep(0.3, fitted_size(size, padded)) or 0 for size in sizes]
    assert counts[1] < counts[0] < counts[2] == padded.num_keep(0.3)
    assert row.kept == round(sum(counts) / 3)
    assert row.gmacs is not None
    assert row.gmacs == pytest.approx((padded.gmacs_fixed or 0) + padded.gmacs_per_kept_token * sum(counts) / 3)
    dense = dataclasses.replace(padded, rho=None, dynamic_rho=False)
    contender = dataclasses.replace(contender, metadata=dense, keep_ratio=None)
    row = running._row(contender, {"backend": "x"}, make_row().samples_ms, Peaks(1.0), None, None, sizes)
    assert (row.kept, row.gmacs) == (426, dense.gmacs())


def test_a_file_that_is_not_as_it_was_exported_is_reported(export_tiny: Export, tmp_path: Path) -> None:
    content = bytearray(export_tiny().path.read_bytes())
    whole, damaged = tmp_path / "whole.onnx", tmp_path / "damaged.onnx"
    whole.write_bytes(content)
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    warnings: list[str] = []
    running._check_digests(line_up([whole, damaged], (), None), warnings.append)
    assert len(warnings) == 1
    assert "damaged.onnx is not as it was exported" in warnings[0]
