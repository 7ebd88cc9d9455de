"""The ctypes binding and the launch functions as far as they go without a GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.kernels import AttentionArguments, Kernels, SelectionArguments
from sparse_detr_deploy.errors import BackendError, InputError
from tests.plugins.conftest import Build

ATTENTION = {
    "batch": 2,
    "tokens": 9,
    "heads": 3,
    "channels": 32,
    "queries": 5,
    "levels": 1,
    "points": 4,
    "reference_batch": 1,
    "reference_levels": 1,
    "reference_size": 2,
}
SELECTION = {"batch": 2, "tokens": 9, "width": 3, "counts": 1}


@pytest.fixture(scope="module")
def kernels(build: Build) -> Kernels:
    return Kernels(build.folder / "tests" / "libsparse_detr_kernels_c.so")


@pytest.mark.network
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("type", 3, "type must be float32"),
        ("reference_type", 1, "reference_points must have the type of value"),
        ("batch", -1, "batch must be"),
        ("heads", 0, "heads"),
        ("channels", 12, "channels of a head"),
        ("channels", 72, "channels of a head"),
        ("levels", 9, "1..8 levels"),
        ("points", 9, "1..8 points"),
        ("reference_batch", 3, "the batch of value"),
        ("reference_levels", 2, "one entry for each level"),
        ("reference_size", 3, "2 or 4 numbers"),
        ("tokens", 0, "tokens"),
        ("tokens", 2**31 // 96 + 1, "less than 2^31 elements"),
        ("split", 3, "split"),
    ],
)
def test_attention_refuses(kernels: Kernels, field: str, value: int, message: str) -> None:
    assert kernels.check("ms_deform_attn", AttentionArguments(**ATTENTION)) is None
    arguments = AttentionArguments(**{**ATTENTION, field: value})
    assert message in (kernels.check("ms_deform_attn", arguments) or "")
    with pytest.raises(InputError, match="ms_deform_attn: "):
        kernels.launch("ms_deform_attn", arguments, 0)


@pytest.mark.network
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("type", -1, "type must be float32"),
        ("batch", -1, "batch must not"),
        ("tokens", 0, "2^20 tokens"),
        ("tokens", 2**20 + 1, "2^20 tokens"),
        ("width", 0, "must be kept"),
        ("counts", 3, "num_keep must have"),
    ],
)
def test_selection_refuses(kernels: Kernels, field: str, value: int, message: str) -> None:
    counts = {"num_keep": 256}  # an address that is never read here
    assert kernels.check("select_tokens", SelectionArguments(**SELECTION, **counts)) is None
    arguments = SelectionArguments(**{**SELECTION, **counts, field: value})
    assert message in (kernels.check("select_tokens", arguments) or "")
    with pytest.raises(InputError, match="select_tokens: "):
        kernels.launch("select_tokens", arguments, 0)


@pytest.mark.network
def test_nothing_to_do_is_no_error(kernels: Kernels) -> None:
    kernels.launch("ms_deform_attn", AttentionArguments(**{**ATTENTION, "queries": 0}), 0)
    kernels.launch("select_tokens", SelectionArguments(**{**SELECTION, "batch": 0}), 0)


@pytest.mark.network
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_a_launch_is_an_error_code(
    kernels: Kernels, build: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, arguments in (
        ("ms_deform_attn", AttentionArguments(**ATTENTION)),
        ("select_tokens", SelectionArguments(**SELECTION)),
    ):
        with pytest.raises(BackendError, match="CUDA error"):
            kernels.launch(name, arguments, 0)
    harness = ctypes.CDLL(str(build.folder / "tests" / "libsparse_detr_plugin_harness.so"))
    harness.harness_create.restype = ctypes.c_void_p
    plugin = harness.harness_create(
        str(build.library).encode(), b"SelectTokens", b"max_keep", (ctypes.c_int64 * 1)(3), 1
    )
    assert plugin is not None
    types, ranks = (ctypes.c_int32 * 3)(0, 8, 8), (ctypes.c_int32 * 3)(2, 1, 2)
    dims = (ctypes.c_int64 * 24)(2, 9, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 3)
    pointers = (ctypes.c_void_p * 3)(256, 256, 256)
    assert harness.harness_enqueue(ctypes.c_void_p(plugin), 3, types, ranks, dims, pointers, None) != 0
    assert "sparse_detr::SelectTokens: " in capfd.readouterr().err
    harness.harness_destroy(ctypes.c_void_p(plugin))


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="build plugins/ first"):
        Kernels(tmp_path / "none.so")
