"""What an artefact says of itself survives its way through JSON, and what is damaged is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.metadata import SCHEMA_VERSION, Metadata

COUNT = st.integers(1, 10**6)
TEXT = st.text(max_size=20)
LEVELS = ((12, 16), (6, 8), (3, 4), (2, 2))
PLAIN = Metadata(name="x", architecture="r50", model={}, height=96, width=128, level_shapes=LEVELS, rho=0.3)

METADATA = st.builds(
    Metadata,
    name=TEXT,
    architecture=TEXT,
    model=st.dictionaries(TEXT, st.one_of(st.integers(), st.booleans(), TEXT, st.none())),
    height=COUNT,
    width=COUNT,
    level_shapes=st.lists(st.tuples(COUNT, COUNT), min_size=1, max_size=5).map(tuple),
    batch=st.lists(COUNT, min_size=3, max_size=3).map(lambda batch: tuple(sorted(batch))),
    rho=st.floats(0, 1, exclude_min=True),
    dynamic_rho=st.booleans(),
    padded=st.booleans(),
    input_dtype=st.sampled_from(["float32", "uint8"]),
    outputs=st.sampled_from(["detections", "raw"]),
    num_detections=COUNT,
    class_names=st.one_of(st.none(), st.lists(TEXT).map(tuple)),
    verification=st.dictionaries(TEXT, st.one_of(st.floats(allow_nan=False), st.lists(st.integers()))),
    custom_ops=st.dictionaries(TEXT, st.integers()),
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
        ({"mean": [10**400, 0, 0]}, r"damaged.*mean, std"),
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


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ArtefactError):
        Metadata.from_json("[" * 100_000)


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
