"""What is counted in a parsed network, and which counts are refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sparse_detr_deploy.errors import BackendError, VerificationError
from sparse_detr_deploy.export.engine.network import NetworkSummary, check_plugins, check_precision, summarise


def layer(kind: str, dtype: str | None, name: str = "node") -> SimpleNamespace:
    """As much of a layer of TensorRT as is looked at; ``None``: it has no output."""
    output = SimpleNamespace(dtype=SimpleNamespace(name=dtype))
    return SimpleNamespace(
        type=SimpleNamespace(name=kind), name=name, num_outputs=int(dtype is not None), get_output=lambda index: output
    )


def summary_of(*layers: SimpleNamespace) -> NetworkSummary:
    return summarise(SimpleNamespace(num_layers=len(layers), get_layer=lambda index: layers[index]))


def test_layers_are_counted_by_kind_and_type() -> None:
    found = summary_of(
        layer("CONVOLUTION", "HALF"),
        layer("CONVOLUTION", "FLOAT"),
        layer("CONVOLUTION", "HALF"),
        layer("MATRIX_MULTIPLY", "FLOAT"),
        layer("ELEMENTWISE", "INT64"),
        layer("ASSERTION", None),
        layer("PLUGIN_V3", "HALF", "MSDeformAttn_0"),
        layer("PLUGIN_V3", "HALF", "MSDeformAttn_1"),
        layer("PLUGIN_V2", "INT64", "SelectTokens_0"),
        layer("ELEMENTWISE", "HALF", "MSDeformAttn_2"),
    )
    assert found.layer_types == {"HALF": 5, "FLOAT": 2, "INT64": 2, "NONE": 1}
    assert found.products == {"CONVOLUTION": {"HALF": 2, "FLOAT": 1}, "MATRIX_MULTIPLY": {"FLOAT": 1}}
    assert found.plugins == {"MSDeformAttn": 2, "SelectTokens": 1}


def products(convolutions: tuple[int, int], others: tuple[int, int]) -> NetworkSummary:
    """Each of (half, float32); the matrix products are of two kinds."""
    counts = {
        "CONVOLUTION": {"HALF": convolutions[0], "FLOAT": convolutions[1]},
        "MATRIX_MULTIPLY": {"HALF": others[0]},
        "EINSUM": {"FLOAT": others[1]},
    }
    return NetworkSummary({"HALF": 900, "FLOAT": 100}, counts, {})


@pytest.mark.parametrize("half", [(53, 0), (30, 30), (1, 0)])
def test_float16_is_the_type_of_most_layers(half: tuple[int, int]) -> None:
    """At least half of the convolutions, and at least half of the matrix products."""
    check_precision("x", products(half, (40, 5)), "fp16")
    check_precision("x", products((53, 0), half), "fp16")


@pytest.mark.parametrize("less", [(29, 30), (0, 53), (0, 0)])
def test_fewer_layers_of_float16_are_refused(less: tuple[int, int]) -> None:
    """The one kind does not make up for the other."""
    for summary, title in (
        (products(less, (900, 0)), "convolutions"),
        (products((900, 0), less), "matrix products"),
    ):
        message = f"^x: float16 was asked for, but of {sum(less)} {title} of the parsed network only {less[0]} are half"
        with pytest.raises(VerificationError, match=message):
            check_precision("x", summary, "fp16")
    with pytest.raises(VerificationError, match="of 0 convolutions"):
        check_precision("x", NetworkSummary({"HALF": 900}, {}, {}), "fp16")


def test_both_kinds_of_convolutions_and_of_products_count() -> None:
    counts = {"CONVOLUTION": {"FLOAT": 1}, "MATRIX_MULTIPLY": {"FLOAT": 1}}
    with pytest.raises(VerificationError, match="of 1 convolutions"):
        check_precision("x", NetworkSummary({}, counts, {}), "fp16")
    counts |= {"DECONVOLUTION": {"HALF": 1}, "EINSUM": {"HALF": 1}}
    check_precision("x", NetworkSummary({}, counts, {}), "fp16")


@pytest.mark.parametrize("dtype", ["HALF", "BF16", "FP8", "INT8", "INT4", "FP4"])
def test_float32_is_the_type_of_all_layers(dtype: str) -> None:
    """One layer of less is refused, whatever kind it is; whole numbers and truths are none of less."""
    counts = {"FLOAT": 900, "INT64": 40, "INT32": 3, "BOOL": 7, "NONE": 1}
    check_precision("x", NetworkSummary(counts, {}, {}), "fp32")
    with pytest.raises(VerificationError, match=rf"float32 was asked for, but .* layers of {{'{dtype}': 1}}"):
        check_precision("x", NetworkSummary({**counts, dtype: 1}, {}, {}), "fp32")


@pytest.mark.parametrize("found", [{"MSDeformAttn": 12}, {"MSDeformAttn": 11, "SelectTokens": 1}, {}])
def test_calls_that_became_no_plugin(found: dict[str, int]) -> None:
    summary, expected = NetworkSummary({}, {}, found), {"MSDeformAttn": 12, "SelectTokens": 1}
    calls = f"{found.get('MSDeformAttn', 0)} of 12 MSDeformAttn, {found.get('SelectTokens', 0)} of 1 SelectTokens only"
    with pytest.raises(BackendError, match=calls):
        check_plugins("x", summary, expected, allow_fallback=False)
    assert check_plugins("x", summary, expected, allow_fallback=True) is False
