"""Options of ``sparse-detr-bench run`` that nothing would follow are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.benchmarks.run_options import parse_contexts, run_settings


def refused(*arguments: str) -> str:
    """The artefacts need not exist: options are checked before anything is read."""
    result = CliRunner().invoke(main, ["run", *arguments], catch_exceptions=False)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "option", ["--device=0", "--no-cuda-graphs", "--cuda-graphs", "--contexts=1,2", "--allow-host-code"]
)
def test_options_of_engines_without_one(option: str) -> None:
    name = "--[no-]cuda-graphs" if "cuda" in option else option.split("=")[0]
    assert f"{name} is for engines, and there is none among the artefacts" in refused("a.onnx", option)


def test_a_device_for_onnx_runtime_on_cuda() -> None:
    assert "CUDA_VISIBLE_DEVICES" in refused("a.onnx", "--provider=cuda", "--device=1")
    assert "CUDA_VISIBLE_DEVICES" not in refused("a.onnx", "--device=1")


@pytest.mark.parametrize("option", ["--backend=onnxruntime", "--provider=cpu", "--threads=1"])
def test_options_of_files_without_one(option: str) -> None:
    name = option.split("=")[0]
    assert f"{name} is for ONNX files, and there are only engines" in refused("a.engine", "b.engine", option)


@pytest.mark.parametrize("options", [("--device=0", "--threads=1", "--provider=cpu", "--contexts=1"), ()])
def test_options_where_there_are_both(options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["run", "a.onnx", "a.engine", *options], catch_exceptions=False)
    assert result.exit_code == 4
    assert "a.onnx does not exist" in result.stderr


def test_parse_contexts() -> None:
    assert parse_contexts("1, 2,4,2") == (1, 2, 4)
    assert parse_contexts("64,1") == (64, 1)


def test_every_option_reaches_its_setting() -> None:
    runtime = {"backend": "onnxruntime", "provider": "cuda", "threads": 3, "device": 1}
    runtime |= {"cuda_graphs": False, "allow_host_code": True}
    others = {
        "keep_ratios": (0.1,),
        "batch": 4,
        "warmup": 5,
        "rounds": 6,
        "images": Path("i"),
        "annotations": Path("a"),
    }
    found = run_settings([Path("a.onnx")], {**runtime, **others, "contexts": "2"}, [])
    assert vars(found.runtime) == runtime
    assert vars(found) == {**others, "runtime": found.runtime, "contexts": (2,)}


@pytest.mark.parametrize("text", ["", " ", ",", "0", "65", "1,,2", "a", "-1", "100", "1.5"])
def test_contexts_that_are_refused(text: str) -> None:
    assert "no list of numbers" in refused("a.engine", f"--contexts={text}")
