"""What an artefact says of itself survives its way through JSON, and what is damaged is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_detr_deploy import limits
from sparse_detr_deploy import metadata as metadata_module
from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.metadata import SCHEMA_VERSION, Metadata

INTEGER = st.integers(-(2**63), 2**64 - 1)
TEXT = st.text(max_size=20)
LEVELS = ((12, 16), (6, 8), (3, 4), (2, 2))
PLAIN = Metadata(name="x", architecture="r50", model={}, height=96, width=128, level_shapes=LEVELS, rho=0.3)
# no artefact claims so much, and what reads it must neither allocate nor compute with it
ABSURD: list[dict[str, Any]] = [
    {"height": 2**32},
    {"width": 2**32},
    {"height": 2**16, "width": 2**16},
    {"batch": [1, 1, 10**9]},
    {"height": 4000, "width": 4000, "batch": [1, 1, 32]},
    {"level_shapes": [[10**9, 10**9]]},
    {"level_shapes": [[97, 16]]},
    {"level_shapes": [[1, 1]] * 9},
    {"std": [1e-300] * 3},
    {"std": [1e300] * 3},
    {"mean": [0, 0, 1e300]},
    {"num_detections": 10**9},
    {"num_detections": 300 * 91 + 1},
    {"num_queries": 10**9},
    {"num_classes": 10**9},
    {"class_names": ["x"] * (limits.MOST_CLASSES + 1)},
    {"class_names": ["x" * (limits.MOST_NAME_CHARACTERS + 1)]},
    {"class_names": ["x" * 1000] * 2100},
    {"name": "x" * (1 << 20)},
    {"architecture": "x" * (1 << 20)},
    {"architecture": "\x1b[2J"},
    {"toolkit_version": [1]},
    {"opset": 0},
    {"opset": "20"},
    {"gmacs_fixed": -1},
    {"gmacs_fixed": 1e300},
    {"gmacs_per_kept_token": 1e300},
    {"model": {"nheads": 0}},
    {"model": {"hidden_dim": "256"}},
    {"model": {"enc_n_points": 10**9}},
    {"versions": {"torch": 2}},
    {"custom_ops": {"MSDeformAttn": "1"}},
    {"checkpoint": {"file": 7}},
    {"digest": "abc"},
    {"digest": "G" * 64},
    {"digest": None},
]

METADATA = st.builds(
    Metadata,
    name=st.from_regex(r"[a-z0-9_]{1,20}(\.[0-9]{1,3})?", fullmatch=True),
    architecture=TEXT.filter(str.isprintable),
    model=st.dictionaries(TEXT, st.one_of(INTEGER, st.booleans(), TEXT, st.none())),
    height=st.integers(64, limits.MOST_SIDE // 16),
    width=st.integers(64, limits.MOST_SIDE // 16),
    level_shapes=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=8).map(tuple),
    batch=st.lists(st.integers(1, 16), min_size=3, max_size=3).map(lambda batch: tuple(sorted(batch))),
    rho=st.floats(0, 1, exclude_min=True),
    dynamic_rho=st.booleans(),
    padded=st.booleans(),
    input_dtype=st.sampled_from(["float32", "uint8"]),
    outputs=st.sampled_from(["detections", "raw"]),
    num_detections=st.integers(1, 300 * 91),
    class_names=st.one_of(st.none(), st.lists(TEXT).map(tuple)),
    verification=st.dictionaries(TEXT, st.one_of(st.floats(allow_nan=False), st.lists(INTEGER))),
    custom_ops=st.dictionaries(TEXT, INTEGER),
)


@given(METADATA)
def test_json_round_trip(metadata: Metadata) -> None:
    assert Metadata.from_json(metadata.to_json()) == metadata


def test_the_document_tells_what_a_reader_needs() -> None:
    document = json.loads(dataclasses.replace(PLAIN, padded=True).to_json())
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["token_count"] == 256
    assert document["num_keep"] == 77
    assert document["resize"] == "fit"
    assert document["box_format"].startswith("x1, y1, x2, y2")
    assert document["color"] == "rgb"
    assert json.loads(PLAIN.to_json())["resize"] == "stretch"


def test_fields_of_later_versions_of_one_schema_are_left_alone() -> None:
    document = {**json.loads(PLAIN.to_json()), "something_new": 1}
    assert Metadata.from_json(json.dumps(document)) == PLAIN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1, "toolkit_version": "9.9"}, "sparse-detr-deploy 9.9.*upgrade"),
        ({"schema_version": "1"}, "no schema_version"),
        ({"schema_version": True}, "no schema_version"),
        ({"schema_version": None}, "no schema_version"),
        ({"height": "96"}, "damaged"),
        ({"width": 0}, "damaged"),
        ({"level_shapes": [[1, 2], [3]]}, "damaged"),
        ({"level_shapes": 7}, "damaged"),
        ({"batch": [8, 4, 1]}, "damaged"),
        ({"batch": 1}, "damaged"),
        ({"rho": 1.5}, "damaged"),
        ({"rho": "0.3"}, "damaged"),
        ({"rho": None, "dynamic_rho": True}, "damaged"),
        ({"input_dtype": "int3"}, "damaged"),
        ({"outputs": "masks"}, "damaged"),
        ({"std": [1, 0, 1]}, "damaged"),
        ({"mean": [1]}, "damaged"),
        ({"class_names": [1]}, "damaged"),
        ({"num_detections": -1}, "damaged"),
        ({"padded": "no"}, r"damaged.*padded"),
        ({"padded": None}, r"damaged.*padded"),
        ({"dynamic_rho": 1}, r"damaged.*dynamic_rho"),
        ({"inlined": "yes"}, r"damaged.*inlined"),
        ({"rho": True}, r"damaged.*rho"),
        ({"rho": float("nan")}, r"damaged.*rho"),
        ({"std": [float("nan")] * 3}, r"damaged.*mean, std"),
        ({"std": [0.2, -0.2, 0.2]}, r"damaged.*mean, std"),
        ({"mean": [True, 0.4, 0.4]}, r"damaged.*mean, std"),
        ({"mean": [0.4, 0.4, float("inf")]}, r"damaged.*mean, std"),
        ({"mean": [10**400, 0, 0]}, r"not JSON.*more than 64 bits"),
        *((change, r"damaged") for change in ABSURD),
        ({"level_shapes": []}, r"damaged.*level_shapes"),
        ({"gmacs_fixed": "a"}, r"damaged.*gmacs"),
        ({"gmacs_fixed": float("nan")}, r"damaged.*gmacs"),
        ({"gmacs_per_kept_token": None}, r"damaged.*gmacs"),
        ({"precision": "int3"}, r"damaged.*precision"),
        ({"color": "cmyk"}, r"damaged.*color"),
        ({"model": [1]}, r"damaged.*model"),
        ({"verification": "done"}, r"damaged.*verification"),
        ({"architecture": 7}, r"damaged.*architecture"),
    ],
)
def test_documents_that_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ArtefactError, match=f"x.onnx.*{message}"):
        Metadata.from_json(json.dumps({**json.loads(PLAIN.to_json()), **change}), "x.onnx")


SHA256 = "0123456789abcdef" * 4
LONGEST = 200
# just within, just beyond, and how the complaint begins
BOUNDS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"height": 65_536, "width": 32}, {"height": 65_537, "width": 32}, "height, width, batch: a canvas"),
    ({"width": 65_536, "height": 32}, {"width": 65_537, "height": 32}, "height, width, batch: a canvas"),
    ({"batch": [1, 1, 4096]}, {"batch": [1, 1, 4097]}, "height, width, batch: a batch of 4097"),
    (
        {"height": 2**10, "width": 2**14, "batch": [1, 1, 16]},
        {"height": 2**10, "width": 2**14, "batch": [1, 1, 17]},
        "height, width, batch: a canvas of 1024×16384 in batches of 17",
    ),
    ({"batch": [2, 2, 2]}, {"batch": [2, 1, 2]}, "batch"),
    ({"batch": [1, 3, 3]}, {"batch": [1, 3, 2]}, "batch"),
    ({"batch": [1, 1, 1]}, {"batch": [0, 1, 1]}, "batch"),
    ({"batch": [1, 1, 2]}, {"batch": [1, 2]}, "batch"),
    ({"batch": [1, 1, 2]}, {"batch": [1, 1, 2, 2]}, "batch"),
    ({"batch": [1, 1, 2]}, {"batch": [True, 1, 2]}, "batch"),
    ({"height": 32}, {"height": 0}, "sizes"),
    ({"width": 32}, {"width": True}, "sizes"),
    ({"num_queries": 100_000}, {"num_queries": 100_001}, "num_queries: 100001, but 100,000"),
    ({"num_classes": 100_000}, {"num_classes": 100_001}, "num_classes: 100001, but 100,000"),
    ({"num_queries": 1, "num_detections": 91}, {"num_queries": 0}, "sizes"),
    ({"num_classes": 1}, {"num_classes": 0}, "sizes"),
    ({"num_detections": 1}, {"num_detections": 0}, "sizes"),
    ({"num_detections": 300 * 91}, {"num_detections": 300 * 91 + 1}, "num_detections: 27301, but 27,300"),
    (
        {"num_queries": 100_000, "num_detections": 1_000_000},
        {"num_queries": 100_000, "num_detections": 1_000_001},
        "num_detections: 1000001, but 1,000,000",
    ),
    ({"level_shapes": [[96, 128]]}, {"level_shapes": [[97, 128]]}, "level_shapes: a level is larger"),
    ({"level_shapes": [[96, 128]]}, {"level_shapes": [[96, 129]]}, "level_shapes: a level is larger"),
    ({"level_shapes": [[1, 1]] * 8}, {"level_shapes": [[1, 1]] * 9}, "level_shapes: 9 levels"),
    ({"level_shapes": [[1, 1]]}, {"level_shapes": [[1, 0]]}, "level_shapes"),
    ({"level_shapes": [[1, 1]]}, {"level_shapes": [[1, 1, 1]]}, "level_shapes"),
    ({"level_shapes": [[1, 1]]}, {"level_shapes": [7]}, "level_shapes"),
    ({"rho": 1}, {"rho": 1.0000001}, "rho"),
    ({"rho": 1e-9}, {"rho": 0}, "rho"),
    ({"rho": None}, {"rho": -0.3}, "rho"),
    ({"std": [1e-4] * 3}, {"std": [1, 9e-5, 1]}, "mean, std"),
    ({"std": [1e4] * 3}, {"std": [1, 1, 10_001]}, "mean, std"),
    ({"std": [1] * 3}, {"std": [1] * 4}, "mean, std"),
    ({"mean": [1e4, 0, -1e4]}, {"mean": [0, 10_001, 0]}, "mean, std"),
    ({"mean": [0, 0, 0]}, {"mean": [0, -10_001, 0]}, "mean, std"),
    ({"mean": [0, 0, 0]}, {"mean": "abc"}, "mean, std"),
    ({"gmacs_fixed": 0}, {"gmacs_fixed": -1e-9}, "gmacs"),
    ({"gmacs_fixed": 1e9}, {"gmacs_fixed": 1.1e9}, "gmacs"),
    ({"gmacs_fixed": None}, {"gmacs_fixed": True}, "gmacs"),
    ({"gmacs_per_kept_token": 1e9}, {"gmacs_per_kept_token": 1.1e9}, "gmacs"),
    ({"gmacs_per_kept_token": 0}, {"gmacs_per_kept_token": -1e-9}, "gmacs"),
    ({"opset": 1}, {"opset": -20}, "opset"),
    ({"digest": SHA256}, {"digest": SHA256.upper()}, "digest"),
    ({"digest": ""}, {"digest": SHA256 + "0"}, "digest"),
    ({"digest": ""}, {"digest": SHA256[1:]}, "digest"),
    ({"architecture": "x" * LONGEST}, {"architecture": "x" * (LONGEST + 1)}, "architecture"),
    ({"toolkit_version": "x" * LONGEST}, {"toolkit_version": "x" * (LONGEST + 1)}, "toolkit_version"),
    ({"toolkit_version": "1.0+ρ"}, {"toolkit_version": "1.0\n"}, "toolkit_version"),
    ({"name": "x"}, {"name": 7}, "name"),
    ({"class_names": ["x" * 1000]}, {"class_names": ["x" * 1001]}, "class_names: a name of 1,001"),
    ({"class_names": []}, {"class_names": "cat"}, "class_names"),
    ({"class_names": ["cat"]}, {"class_names": ["cat", None]}, "class_names"),
    *(
        ({"model": {field: 65_536}}, {"model": {field: odd}}, f"model, {field}")
        for field in ("hidden_dim", "nheads", "enc_n_points", "dec_n_points")
        for odd in (65_537, 0, True)
    ),
    ({"versions": {"torch": "2"}}, {"versions": {"torch": "2", "onnx": None}}, "versions"),
    ({"versions": {}}, {"versions": ["2"]}, "versions"),
    ({"custom_ops": {"x": 1}}, {"custom_ops": {"x": True}}, "custom_ops"),
    ({"checkpoint": {"file": "x", "sha256": "y", "z": 1}}, {"checkpoint": {"file": "x", "sha256": 1}}, "checkpoint"),
    ({"checkpoint": {}}, {"checkpoint": []}, "checkpoint"),
    ({"dynamic_rho": True}, {"dynamic_rho": True, "rho": None}, "dynamic_rho"),
    ({"precision": "float16"}, {"precision": "fp16"}, "precision"),
    ({"input_dtype": "uint8"}, {"input_dtype": "float16"}, "input_dtype"),
    ({"outputs": "raw"}, {"outputs": "boxes"}, "outputs"),
    ({"color": "rgb"}, {"color": "bgr"}, "color"),
]


@pytest.mark.parametrize(("within", "beyond", "complaint"), BOUNDS)
def test_each_bound_by_itself(within: dict[str, Any], beyond: dict[str, Any], complaint: str) -> None:
    """What is just within is read; of what is just beyond, this alone is complained of."""
    document = json.loads(PLAIN.to_json())
    read = Metadata.from_json(json.dumps({**document, **within}))
    assert {name: read.to_dict()[name] for name in within} == {
        name: tuple(map(_as_read, value)) if isinstance(value, list) else value for name, value in within.items()
    }
    with pytest.raises(ArtefactError, match=rf"^x\.onnx: its metadata is damaged \({complaint}[^;]*\); export it"):
        Metadata.from_json(json.dumps({**document, **beyond}), "x.onnx")


def _as_read(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_one_complaint_does_not_hide_another() -> None:
    change = {"height": 0, "digest": "x", "padded": 1, "model": 7, "rho": 2}
    with pytest.raises(ArtefactError) as caught:
        Metadata.from_json(json.dumps({**json.loads(PLAIN.to_json()), **change}))
    assert "(digest; model; sizes; rho; padded)" in str(caught.value)


def test_work_of_an_image() -> None:
    """In 10⁹ multiply-adds: a fixed part, and one for each token that is kept."""
    counted = dataclasses.replace(PLAIN, gmacs_fixed=5.0, gmacs_per_kept_token=0.25, dynamic_rho=True)
    assert counted.gmacs() == 5 + 0.25 * 77
    assert counted.gmacs(0.5) == 5 + 0.25 * 129
    assert dataclasses.replace(counted, rho=None, dynamic_rho=False).gmacs() == 5
    assert PLAIN.gmacs() is None
    with pytest.raises(InputError, match="fixed at"):
        PLAIN.gmacs(0.5)


def test_boxes_of_raw_outputs_are_described_as_such() -> None:
    assert dataclasses.replace(PLAIN, outputs="raw").to_dict()["box_format"].startswith("cx, cy, w, h")


def test_a_document_may_be_as_large_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PLAIN.to_json()
    monkeypatch.setattr(metadata_module, "MOST_METADATA_BYTES", len(text))
    assert Metadata.from_json(text) == PLAIN
    with pytest.raises(ArtefactError, match="its metadata is larger than"):
        Metadata.from_json(text + " ")


@pytest.mark.parametrize("name", ["name", "height", "level_shapes", "model"])
def test_a_missing_field(name: str) -> None:
    document = json.loads(PLAIN.to_json())
    del document[name]
    with pytest.raises(ArtefactError, match=f"incomplete.*{name}"):
        Metadata.from_json(json.dumps(document))


@given(st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ArtefactError):
        Metadata.from_json(text)


@pytest.mark.parametrize("depth", [70, 900, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(ArtefactError):
        Metadata.from_json("[" * 100_000)
    nested = "[" * depth + "]" * depth
    document = json.dumps({**json.loads(PLAIN.to_json()), "verification": "HERE"}).replace(
        '"HERE"', f'{{"x": {nested}}}'
    )
    with pytest.raises(ArtefactError, match="nested more than 64 deep"):
        Metadata.from_json(document)


def test_large_documents_are_refused() -> None:
    document = {**json.loads(PLAIN.to_json()), "verification": {"x": "y" * limits.MOST_METADATA_BYTES}}
    with pytest.raises(ArtefactError, match="larger than 16,777,216 bytes"):
        Metadata.from_json(json.dumps(document))


@pytest.mark.parametrize("field", ["name", "architecture", "verification", "class_names"])
def test_text_that_no_terminal_takes_is_refused(field: str) -> None:
    """JSON may escape half of a surrogate pair; written anywhere it ends in UnicodeEncodeError."""
    half = {"verification": {"x": "\ud800"}, "class_names": ["\ud800"]}.get(field, "\ud800")
    with pytest.raises(ArtefactError, match="surrogate") as caught:
        Metadata.from_json(json.dumps({**json.loads(PLAIN.to_json()), field: half}))
    str(caught.value).encode()


def test_a_newer_writer_is_not_quoted_at_length() -> None:
    document = {"schema_version": SCHEMA_VERSION + 1, "toolkit_version": "9" * (1 << 20)}
    with pytest.raises(ArtefactError, match="upgrade") as caught:
        Metadata.from_json(json.dumps(document))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("change", [{"height": 2048, "width": 2048, "batch": [1, 32, 64]}, {"num_detections": 27_300}])
def test_large_artefacts_are_read(change: dict) -> None:
    assert Metadata.from_json(json.dumps({**json.loads(PLAIN.to_json()), **change})).name == "x"


def test_files_of_older_versions_have_no_digest() -> None:
    document = json.loads(PLAIN.to_json())
    del document["digest"]
    assert Metadata.from_json(json.dumps(document)) == PLAIN


def test_keep_ratio_of_a_fixed_artefact() -> None:
    assert PLAIN.num_keep() == PLAIN.num_keep(0.3) == 77
    for ratio in (0.5, 0, -1, 1.5, float("nan"), "abc"):
        with pytest.raises(InputError, match="fixed at ρ = 0.3"):
            PLAIN.num_keep(ratio)  # type: ignore[arg-type]


def test_keep_ratio_of_a_dynamic_artefact() -> None:
    dynamic = dataclasses.replace(PLAIN, dynamic_rho=True)
    assert dynamic.num_keep(0.5) == 129
    assert dynamic.num_keep(1) == 256
    assert dynamic.num_keep(0.5, (48, 64)) == 33
    for ratio in (0, -1, 1.5, float("nan"), float("inf"), "abc"):
        with pytest.raises(InputError, match="keep ratio"):
            dynamic.num_keep(ratio)  # type: ignore[arg-type]


def test_keep_ratio_of_a_dense_artefact() -> None:
    dense = dataclasses.replace(PLAIN, rho=None)
    assert dense.num_keep() is None
    with pytest.raises(InputError, match="dense"):
        dense.num_keep(0.3)
