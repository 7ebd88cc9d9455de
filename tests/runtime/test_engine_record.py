"""What a sidecar says of its engine survives its way through the file, and what is damaged is refused."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparse_detr_deploy.engine_record import EngineRecord, PluginRecord, read_sidecar, sidecar_json, sidecar_path
from sparse_detr_deploy.errors import ArtefactError
from tests.runtime.test_metadata import PLAIN

RECORD = EngineRecord(
    flavour="tensorrt",
    version="10.16.1.11",
    sha256="a" * 64,
    onnx_sha256="b" * 64,
    precision="fp16",
    layer_types={"HALF": 812, "FLOAT": 0},
    targets=("sm89", "sm120"),
    attention="plugin",
    selection="top-k rounds",
    plugin=PluginRecord("libsparse_detr_plugins.so", "0.1.0", "c" * 64, True),
    workspace_mib=512,
    products={"convolution": {"HALF": 53}},
    inspected={"HALF": 40},
)


def write(folder: Path, **changes: Any) -> Path:
    """A sidecar whose record is changed; a field that becomes ``...`` is left out."""
    document = json.loads(sidecar_json(PLAIN, RECORD))
    values = {**document["engine"], **changes}
    document["engine"] = {key: value for key, value in values.items() if value is not ...}
    (folder / "x.engine.json").write_text(json.dumps(document))
    return folder / "x.engine"


def test_name() -> None:
    assert sidecar_path("a/r50_rho30.engine") == Path("a/r50_rho30.engine.json")


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        dataclasses.replace(RECORD, flavour="tensorrt-rtx", onnx_sha256="", plugin=None, workspace_mib=None),
        dataclasses.replace(RECORD, inspected=None, products={}, targets=(), workspace_mib=1),
    ],
)
def test_there_and_back(record: EngineRecord, tmp_path: Path) -> None:
    named = dataclasses.replace(PLAIN, class_names=("größe",))
    (tmp_path / "x.engine.json").write_text(text := sidecar_json(named, record), encoding="utf-8")
    assert read_sidecar(tmp_path / "x.engine") == (named, record)
    assert "größe" in text
    assert '\n "engine": {\n  "flavour"' in text
    assert text.endswith("}\n")


def test_fields_of_other_versions(tmp_path: Path) -> None:
    """Those of a later version are passed over, those that came later have a default."""
    optional = dict.fromkeys(("plugin", "workspace_mib", "products", "inspected"), ...)
    _, record = read_sidecar(write(tmp_path, colour="red", **optional))
    assert record == dataclasses.replace(RECORD, plugin=None, workspace_mib=None, products={}, inspected=None)
    plugin = {"library": "x.so", "version": "1", "sha256": "c" * 64, "colour": "red"}
    assert read_sidecar(write(tmp_path, plugin=plugin))[1].plugin == PluginRecord("x.so", "1", "c" * 64, False)


@pytest.mark.parametrize(
    ("field", "value", "described"),
    [
        ("flavour", "tflite", "one of tensorrt, tensorrt-rtx"),
        ("version", 10, "a short text"),
        ("sha256", "a" * 63, "a SHA-256 in hexadecimal"),
        ("sha256", "", "a SHA-256 in hexadecimal"),
        ("onnx_sha256", "b" * 65, "a SHA-256 in hexadecimal"),
        ("precision", None, "a short text"),
        ("layer_types", {"HALF": -1}, "an object of whole numbers"),
        ("layer_types", {"HALF": True}, "an object of whole numbers"),
        ("layer_types", {"HALF": 1.0}, "an object of whole numbers"),
        ("targets", "sm89", "a list of short texts"),
        ("targets", ["sm89", 89], "a list of short texts"),
        ("attention", [], "a short text"),
        ("selection", 1, "a short text"),
        ("plugin", "x.so", "an object or null"),
        ("workspace_mib", 0, "a whole number of at least 1, or null"),
        ("products", {"convolution": 53}, "an object of objects of whole numbers"),
        ("inspected", {"HALF": "40"}, "an object of whole numbers, or null"),
    ],
)
def test_a_field_of_another_type(field: str, value: Any, described: str, tmp_path: Path) -> None:
    with pytest.raises(
        ArtefactError, match=rf"x\.engine\.json does not .* \({field} is not {described}\): sparse-detr"
    ):
        read_sidecar(write(tmp_path, **{field: value}))


@pytest.mark.parametrize(
    ("field", "value", "described"),
    [
        ("library", "../x.so", "the plain name of a file"),
        ("library", 1, "the plain name of a file"),
        ("version", 1, "a short text"),
        ("sha256", "c", "a SHA-256 in hexadecimal"),
        ("serialized", 1, "true or false"),
    ],
)
def test_a_field_of_the_plugin_of_another_type(field: str, value: Any, described: str, tmp_path: Path) -> None:
    plugin = {**dataclasses.asdict(RECORD)["plugin"], field: value}
    with pytest.raises(ArtefactError, match=rf"\(plugin\.{field} is not {described}\)"):
        read_sidecar(write(tmp_path, plugin=plugin))


REQUIRED = [field.name for field in dataclasses.fields(EngineRecord)][:9]


@pytest.mark.parametrize("field", REQUIRED)
def test_a_field_that_is_missing(field: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=rf"\({field} is missing\)"):
        read_sidecar(write(tmp_path, **{field: ...}))


def test_a_field_of_the_plugin_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"\(plugin\.version is missing\)"):
        read_sidecar(write(tmp_path, plugin={"library": "x.so", "sha256": "c" * 64}))


@pytest.mark.parametrize("engine", [..., None, [], "x"])
def test_a_file_of_no_engine(engine: Any, tmp_path: Path) -> None:
    document = {**json.loads(PLAIN.to_json()), "engine": engine}
    text = json.dumps({key: value for key, value in document.items() if value is not ...})
    (tmp_path / "x.engine.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"does not describe an engine \(no object under 'engine'\)"):
        read_sidecar(tmp_path / "x.engine")


def test_no_file_to_read(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"x\.engine\.json is missing.*: sparse-detr-export writes it"):
        read_sidecar(tmp_path / "x.engine")
    os.mkfifo(tmp_path / "x.engine.json")
    with pytest.raises(ArtefactError, match=r"x\.engine\.json cannot be read \(.+\): sparse-detr-export writes it"):
        read_sidecar(tmp_path / "x.engine")
