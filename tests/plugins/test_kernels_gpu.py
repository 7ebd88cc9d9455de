"""Both kernels on a GPU against float64 on the CPU, and the plugins' own ``enqueue`` in a CUDA graph.

``SPARSE_DETR_BUILD`` may name a finished build folder.
"""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.gpu.kernels import ALWAYS_SPLIT, AUTOMATIC, NEVER_SPLIT, Kernels
from sparse_detr_deploy.modeling.ops import ms_deform_attn, select_tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.network,  # the build, unless it is given
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU that torch can use"),
]

# Relative error of the norm: rounding of the result, and of float32 sums.
TOLERANCES = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
TENSORRT_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 7, torch.int64: 8}
PYRAMID = ((25, 34), (13, 17), (7, 9), (1, 1))


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    given = os.environ.get("SPARSE_DETR_BUILD")
    return Path(given) if given else request.getfixturevalue("build").folder


@pytest.fixture(scope="module")
def kernels(folder: Path) -> Kernels:
    return Kernels(folder / "tests" / "libsparse_detr_kernels_c.so")


def attention_inputs(
    seed: int, dtype: torch.dtype, *, channels: int = 32, points: int = 4, box: bool = False, queries: int = 1783
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    levels = len(PYRAMID)
    tokens = sum(height * width for height, width in PYRAMID)
    return (
        normal(2, tokens, 8, channels).to(dtype),
        torch.rand(1, queries, levels, 4 if box else 2, generator=generator),
        (normal(2, queries, 8, levels, points, 2) * 3).to(dtype),
        normal(2, queries, 8, levels * points).to(dtype),
    )


def error(result: Tensor, expected: Tensor) -> float:
    return float((result.double().cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("split", [AUTOMATIC, NEVER_SPLIT, ALWAYS_SPLIT])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"box": True, "queries": 300},
        {"channels": 8},
        {"channels": 24, "points": 3},
        {"channels": 56, "queries": 1},
        {"channels": 64, "points": 8, "queries": 97},
    ],
)
@pytest.mark.parametrize("on_device", [False, True])
def test_attention(kernels: Kernels, dtype: torch.dtype, split: int, options: dict[str, int], on_device: bool) -> None:
    value, reference, offsets, logits = attention_inputs(zlib.crc32(str(options).encode()), dtype, **options)
    expected = ms_deform_attn(value.double(), PYRAMID, reference.double(), offsets.double(), logits.double())
    output = torch.full(expected.shape, float("nan"), dtype=dtype, device="cuda")
    shapes = torch.tensor(PYRAMID, device="cuda") if on_device else PYRAMID
    kernels.ms_deform_attn(
        value.cuda(), shapes, reference.cuda(), offsets.cuda(), logits.cuda(), output=output, split=split
    )
    torch.cuda.synchronize()
    assert error(output, expected) < TOLERANCES[dtype]  # NaN, an element not written, never passes


def test_attention_with_shapes_that_do_not_fit_is_nan(kernels: Kernels) -> None:
    value, reference, offsets, logits = (part.cuda() for part in attention_inputs(0, torch.float32, queries=7))
    shapes = torch.tensor(PYRAMID, device="cuda")
    shapes[0, 0] += 1
    output = kernels.ms_deform_attn(value, shapes, reference, offsets, logits)
    torch.cuda.synchronize()
    assert output.isnan().all()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("tokens", [1, 100, 1783, 8192, 17821, 32768, 100_003, 1 << 20])
@pytest.mark.parametrize("ties", [False, True])
def test_selection(kernels: Kernels, dtype: torch.dtype, tokens: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(tokens)
    scores = torch.randn(3, tokens, generator=generator)
    scores = ((scores * 2).round() if ties else scores).to(dtype)
    counts = torch.tensor([max(1, tokens * 3 // 10), 1, max(1, tokens // 7)])
    expected = select_tokens(scores, counts)
    output = torch.full_like(expected, -1, device="cuda")
    kernels.select_tokens(scores.cuda(), counts.cuda(), expected.shape[1], output=output)
    torch.cuda.synchronize()
    assert torch.equal(output.cpu(), expected)
    again = kernels.select_tokens(scores.cuda(), counts.cuda(), expected.shape[1])
    torch.cuda.synchronize()
    assert torch.equal(output, again)


def enqueue_in_graph(folder: Path, name: bytes, field: bytes | None, values: list[int], tensors: list[Tensor]) -> None:
    """Capture the plugin's enqueue on the tensors, the last of them the output, and replay it once."""
    harness = ctypes.CDLL(str(folder / "tests" / "libsparse_detr_plugin_harness.so"))
    harness.harness_create.restype = ctypes.c_void_p
    library = str(folder / "libsparse_detr_plugins.so").encode()
    plugin = ctypes.c_void_p(
        harness.harness_create(library, name, field, (ctypes.c_int64 * len(values))(*values), len(values))
    )
    assert plugin.value
    count = len(tensors)
    types = (ctypes.c_int32 * count)(*(TENSORRT_TYPES[tensor.dtype] for tensor in tensors))
    ranks = (ctypes.c_int32 * count)(*(tensor.dim() for tensor in tensors))
    padded = [size for tensor in tensors for size in (*tensor.shape, *[0] * (8 - tensor.dim()))]
    dims = (ctypes.c_int64 * len(padded))(*padded)
    pointers = (ctypes.c_void_p * count)(*(tensor.data_ptr() for tensor in tensors))

    def run() -> int:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        status: int = harness.harness_enqueue(plugin, count, types, ranks, dims, pointers, stream)
        return status

    capture(run)
    harness.harness_destroy(plugin)


def capture(run: Callable[[], int]) -> None:
    assert run() == 0  # loads the kernel, which a capture may not
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # an allocation or a synchronisation inside would end the capture with an error
        assert run() == 0
    graph.replay()
    torch.cuda.synchronize()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("as_attribute", [False, True])
def test_attention_plugin_in_a_graph(folder: Path, dtype: torch.dtype, as_attribute: bool) -> None:
    value, reference, offsets, logits = attention_inputs(5, dtype, queries=131)
    expected = ms_deform_attn(value.double(), PYRAMID, reference.double(), offsets.double(), logits.double())
    output = torch.full(expected.shape, float("nan"), dtype=dtype, device="cuda")
    shapes = torch.tensor(PYRAMID)
    tensors = [value.cuda(), shapes.cuda(), reference.cuda(), offsets.cuda(), logits.cuda(), output]
    field, values = (b"level_shapes", shapes.flatten().tolist()) if as_attribute else (None, [])
    enqueue_in_graph(folder, b"MSDeformAttn", field, values, tensors)
    assert error(output, expected) < TOLERANCES[dtype]


def test_selection_plugin_in_a_graph(folder: Path) -> None:
    scores = torch.randn(2, 17821, generator=torch.Generator().manual_seed(3))
    counts = torch.tensor([5347, 1783])
    expected = select_tokens(scores, counts)
    output = torch.full_like(expected, -1, device="cuda")
    enqueue_in_graph(folder, b"SelectTokens", b"max_keep", [5347], [scores.cuda(), counts.cuda(), output])
    assert torch.equal(output.cpu(), expected)
    output.fill_(-1)
    fixed = select_tokens(scores, counts[:1])
    enqueue_in_graph(folder, b"SelectTokens", b"tensorrt_plugin_shape_input_indices", [1], [scores.cuda(), output])
    assert torch.equal(output.cpu(), fixed)
