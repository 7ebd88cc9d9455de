"""Specifications: what is refused before any heavy work, and file names."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name, parse_batch, parse_rho, parse_size
from sparse_detr_deploy.modeling.config import ModelConfig, sparse_config

SPARSE = sparse_config()
DENSE = ModelConfig()


@pytest.mark.parametrize("text", ["0", "-1", "-0.1", "1.5", "1.0000001", "nan", "inf", "abc", "", "0,3", "10%"])
def test_rho_that_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="ρ"):
        parse_rho(text)


def test_rho() -> None:
    assert parse_rho("0.3") == 0.3
    assert parse_rho("1") == 1.0
    assert parse_rho("1e-3") == 0.001
    assert parse_rho("dynamic") is None


@pytest.mark.parametrize("text", ["800", "800x", "0x100", "100x0", "-8x9", "800x1066x3", "axb", "8.5x9", ""])
def test_size_that_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="HEIGHTxWIDTH"):
        parse_size(text)


@given(st.integers(1, 10**5), st.integers(1, 10**5))
def test_size(height: int, width: int) -> None:
    assert parse_size(f"{height}x{width}") == (height, width)
    assert parse_size(f" {height}×{width} ") == (height, width)


@pytest.mark.parametrize(
    "text", ["8:4:1", "1:8:4", "2:1:2", "0", "0:1:2", "-1", "1:2", "1:2:3:4", "a", "1.5", "", "1::2"]
)
def test_batch_that_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="batch"):
        parse_batch(text)


def test_batch() -> None:
    assert parse_batch("4") == (4, 4, 4)
    assert parse_batch("1:4:8") == (1, 4, 8)


@given(st.tuples(st.integers(-3, 9), st.integers(-3, 9), st.integers(-3, 9)))
def test_batch_ranges_are_in_order_or_refused(batch: tuple[int, int, int]) -> None:
    text = ":".join(map(str, batch))
    if 1 <= batch[0] <= batch[1] <= batch[2]:
        assert parse_batch(text) == ExportSpec(800, 1066, batch=batch).batch == batch
    else:
        with pytest.raises(InputError, match="order"):
            parse_batch(text)
        with pytest.raises(InputError, match="order"):
            ExportSpec(800, 1066, batch=batch)


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({"rho": 0.3}, DENSE, "leave --rho out"),
        ({"dynamic_rho": True}, DENSE, "leave --rho out"),
        ({}, SPARSE, "give a ρ"),
        ({"rho": 0.3, "num_detections": 27_301}, SPARSE, "300 queries × 91 classes"),
        ({"rho": 0.3, "class_names": ("cat", "dog")}, SPARSE, "2 class names, but the model has 91"),
        ({"rho": 0.3, "height": 31}, SPARSE, "too small for 4 levels"),
        ({"rho": 0.3, "width": 31}, SPARSE, "too small for 4 levels"),
        ({"rho": 0.3, "height": 9_000, "width": 29_000}, SPARSE, "too large"),
    ],
)
def test_specifications_that_do_not_fit_a_model(changes: dict, config: ModelConfig, message: str) -> None:
    spec = ExportSpec(**{"height": 800, "width": 1066, **changes})
    with pytest.raises(InputError, match=message):
        spec.check_against(config)


@pytest.mark.parametrize(
    ("size", "changes", "refused"),
    [
        ((10_000, 10_000), {}, True),
        ((9_000, 9_000), {}, False),
        ((10_000, 10_000), {"precision": "fp16"}, False),
        ((14_000, 14_000), {"precision": "fp16"}, True),
        ((10_000, 10_000), {"padded": True}, False),
        ((16_000, 16_000), {"padded": True}, False),
    ],
)
def test_canvases_that_a_file_can_hold(size: tuple[int, int], changes: dict, refused: bool) -> None:
    """2 GB: the constants of every level and the weights; files with padding store none of the constants."""
    height, width = size
    levels = tuple((-(-height // stride), -(-width // stride)) for stride in (8, 16, 32, 64))
    spec = ExportSpec(height, width, rho=0.3, **changes)
    if not refused:
        spec.check_against(SPARSE, levels, 41_000_000)
        return
    with pytest.raises(InputError, match=r"too large: .* GB .*--padded"):
        spec.check_against(SPARSE, levels, 41_000_000)


@pytest.mark.parametrize(
    ("changes", "config", "parameters", "most"),
    [
        ({}, SPARSE, 0, 2_025_386),  # 4 × (256 + 7) bytes a token
        ({"precision": "fp16"}, SPARSE, 0, 3_960_420),  # 2 × (256 + 1) + 4 × 6
        ({}, SPARSE, 100_000_000, 1_645_158),  # 400 MB of weights
        ({"precision": "fp16"}, SPARSE, 100_000_000, 3_588_673),
        ({}, dataclasses.replace(SPARSE, hidden_dim=32), 0, 13_658_374),
    ],
)
def test_how_many_tokens_a_file_can_hold(changes: dict, config: ModelConfig, parameters: int, most: int) -> None:
    """To the token, of 2 GiB less 16 MiB for the graph."""
    spec = ExportSpec(800, 1066, rho=0.3, **changes)
    spec.check_against(config, ((1, most),), parameters)
    with pytest.raises(InputError, match=f"the constants of its {most + 1} tokens"):
        spec.check_against(config, ((1, most + 1),), parameters)
    dataclasses.replace(spec, padded=True).check_against(config, ((1, 10 * most),), parameters)


@pytest.mark.parametrize(("levels", "tokens"), [(4, 262_144), (1, 16_384)])
def test_tokens_are_estimated_by_the_finest_level(levels: int, tokens: int) -> None:
    """Where the shapes are not known: one for 8×8 pixels, of a single level for 32×32."""
    config = dataclasses.replace(SPARSE, num_feature_levels=levels)
    with pytest.raises(InputError, match=f"the constants of its {tokens} tokens"):
        ExportSpec(4096, 4096, rho=0.3).check_against(config, parameters=2**29)


@pytest.mark.parametrize("side", ["height", "width"])
def test_the_smallest_canvas(side: str) -> None:
    config = dataclasses.replace(SPARSE, num_queries=1)
    ExportSpec(**{"height": 800, "width": 1066, side: 32, "rho": 0.3, "num_detections": 91}).check_against(config)
    with pytest.raises(InputError, match="each side needs 32 pixels or more"):
        ExportSpec(**{"height": 800, "width": 1066, side: 31, "rho": 0.3, "num_detections": 91}).check_against(config)


def test_as_many_detections_and_names_as_there_are() -> None:
    names = tuple(map(str, range(91)))
    ExportSpec(800, 1066, rho=0.3, num_detections=27_300, class_names=names).check_against(SPARSE)
    for count in (90, 92):
        with pytest.raises(InputError, match=f"{count} class names, but the model has 91 classes"):
            ExportSpec(800, 1066, rho=0.3, class_names=("x",) * count).check_against(SPARSE)
    most = dataclasses.replace(SPARSE, num_queries=100_000, num_classes=100_000)
    ExportSpec(800, 1066, rho=0.3, num_detections=1_000_000).check_against(most)
    with pytest.raises(InputError, match="1000001 detections, but 1,000,000 are possible"):
        ExportSpec(800, 1066, rho=0.3, num_detections=1_000_001)


def test_one_stage_models_take_no_queries_from_the_tokens() -> None:
    ExportSpec(96, 128).check_against(dataclasses.replace(DENSE, num_queries=300), ((12, 16),))


def test_too_few_tokens_for_the_queries() -> None:
    spec = ExportSpec(96, 128, rho=0.3)
    levels = ((12, 16), (6, 8), (3, 4), (2, 2))
    with pytest.raises(InputError, match="has 256 tokens, fewer than the 300 queries"):
        spec.check_against(SPARSE, levels)
    spec.check_against(dataclasses.replace(SPARSE, num_queries=256, num_classes=91), levels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rho": 0}, "ρ is 0, but"),
        ({"rho": 2}, "ρ is 2, but"),
        ({"rho": 0.3, "dynamic_rho": True}, "leave rho out"),
        ({"outputs": "boxes"}, "'boxes' is not one of detections, raw"),
        ({"precision": "float16"}, "'float16' is not one of fp32, fp16"),
    ],
)
def test_specifications_that_contradict_themselves(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExportSpec(800, 1066, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 70_000}, "no artefact has a canvas of 70000×1066, but 65,536"),
        ({"height": 40_000, "width": 30_000, "padded": True}, "268,435,456 pixels a batch"),
        ({"batch": (1, 1, 400)}, "in batches of 400"),
        ({"height": 32, "width": 32, "batch": (1, 1, 5000)}, "a batch of 5000"),
        ({"num_detections": 2_000_000}, "2000000 detections"),
        ({"class_names": ("x",) * 100_001}, "100,001 names"),
        ({"class_names": ("x" * 1001,)}, "a name of 1,001 characters"),
        ({"class_names": ("\ud800",)}, "half of a surrogate pair"),
    ],
)
def test_what_no_reader_would_take(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExportSpec(**{"height": 800, "width": 1066, "rho": 0.3, **changes})


@pytest.mark.parametrize("name", ["num_queries", "num_classes"])
def test_models_of_which_no_reader_would_take_an_artefact(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} = 100001"):
        ExportSpec(800, 1066, rho=0.3).check_against(dataclasses.replace(SPARSE, **{name: 100_001}))


def test_no_detections() -> None:
    with pytest.raises(InputError, match="at least 1"):
        ExportSpec(800, 1066, num_detections=0)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"rho": 0.1}, "r50_rho10_800x1066"),
        ({"rho": 0.05}, "r50_rho05_800x1066"),
        ({"rho": 0.125}, "r50_rho12.5_800x1066"),
        ({"rho": 1.0}, "r50_rho100_800x1066"),
        ({}, "r50_dense_800x1066"),
        ({"dynamic_rho": True}, "r50_rhodyn_800x1066"),
        ({"rho": 0.3, "batch": (4, 4, 4)}, "r50_rho30_800x1066_b4"),
        ({"rho": 0.3, "batch": (1, 4, 8), "padded": True}, "r50_rho30_800x1066_b1-8_padded"),
        ({"outputs": "raw", "uint8_input": True, "inline_functions": True}, "r50_dense_800x1066_raw_uint8_inlined"),
        ({"rho": 0.3, "batch": (1, 1, 2), "precision": "fp16"}, "r50_rho30_800x1066_b1-2_fp16"),
        ({"rho": 0.3, "padded": True, "precision": "fp16"}, "r50_rho30_800x1066_padded_fp16"),
        ({"rho": 0.001}, "r50_rho0.1_800x1066"),
    ],
)
def test_names(changes: dict, name: str) -> None:
    assert artefact_name(SPARSE, ExportSpec(800, 1066, **changes)) == name


@given(
    st.floats(0.001, 1.0),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(1, 1, 1), (2, 2, 2), (1, 2, 2), (1, 4, 8)]),
)
def test_names_are_file_names(rho: float, padded: bool, raw: bool, batch: tuple[int, int, int]) -> None:
    name = artefact_name(
        SPARSE, ExportSpec(8, 9, rho=rho, padded=padded, outputs="raw" if raw else "detections", batch=batch)
    )
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
