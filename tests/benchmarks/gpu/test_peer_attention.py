"""Our inputs in the form of each kernel of others; stand-ins on host memory take the kernels' place."""

import ctypes
import math
import subprocess

import pytest
import torch

from benchmarks.gpu.cases import DECODER_QUERIES, SHAPES
from benchmarks.gpu.peer_attention import (
    PEER_KERNELS,
    PeerCall,
    block_threads,
    grid_sample_attention,
    level_sizes,
    locations,
)
from benchmarks.gpu.peer_library import PeerAttention, PeerSelection
from benchmarks.gpu.peer_rows import PEER_TOLERANCES, attention_check
from sparse_detr_deploy.modeling.ops import ms_deform_attn
from sparse_detr_deploy.modeling.ops.ms_deform_attn import sampling_locations
from tests.benchmarks.gpu.stand_ins import case_of, compile_host
from tests.closeness import assert_close_to_scale


@pytest.mark.parametrize(("name", "structure"), [("PeerAttention", PeerAttention), ("PeerSelection", PeerSelection)])
def test_the_structs_lie_in_memory_as_the_header_says(tmp_path, name, structure):
    fields = [field for field, *_ in structure._fields_]
    lines = "".join(f'std::printf("%zu ", offsetof({name}, {field}));' for field in fields)
    source = f'#include <cstddef>\n#include <cstdio>\n#include "peer_call.h"\nint main() {{ {lines} std::printf("%zu", sizeof({name})); }}'
    program = compile_host(source, tmp_path / "offsets")
    told = [int(part) for part in subprocess.check_output([str(program)], text=True).split()]
    assert told == [*(getattr(structure, field).offset for field in fields), ctypes.sizeof(structure)]


@pytest.mark.parametrize("box", [False, True])
def test_locations_and_grid_sample_are_those_of_the_twin(box):
    case = case_of(5, box=box)
    sizes = level_sizes(torch.device("cpu"))
    expected = sampling_locations(SHAPES, case.reference_points, case.sampling_offsets)
    assert_close_to_scale(locations(case, sizes), expected, 1e-6)
    assert attention_check(case)(grid_sample_attention(case, sizes)) < 1e-5


def test_grid_sample_is_compiled_once_for_all_input_sets():
    torch.compiler.reset()
    compiled = torch.compile(grid_sample_attention, backend="eager", fullgraph=True, dynamic=False)
    sizes = level_sizes(torch.device("cpu"))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            case = case_of(3, seed=seed)
            assert torch.equal(compiled(case, sizes), grid_sample_attention(case, sizes))


@pytest.mark.parametrize("name", [name for name in PEER_KERNELS if name != "original_template_float16"])
@pytest.mark.parametrize("box", [False, True])
def test_a_kernel_gets_our_inputs_in_its_own_form(libraries, name, box):
    kernel = PEER_KERNELS[name]
    case = case_of(21, box=box)
    call = PeerCall(kernel, libraries[kernel.library], case)
    call.output.fill_(math.nan)
    call.launch()
    assert call.result().shape == (1, 21, 256)
    assert attention_check(case)(call.result()) < 1e-5
    assert call.output.shape[1] == (32 if name == "dcnv4_padded" else 21)


def test_the_original_computes_half_precision_cases_in_float32(libraries):
    case = case_of(9, torch.bfloat16)
    call = PeerCall(PEER_KERNELS["original"], libraries["original"], case)
    call.launch()
    assert call.type == torch.float32
    assert attention_check(case)(call.result()) < 1e-5


@pytest.mark.parametrize(("dtype", "in_half"), [(torch.float16, True), (torch.bfloat16, False)])
def test_rounded_locations_stay_within_what_the_check_allows(dtype, in_half):
    """The tolerance is for locations in the kernel's type; a wrong layout is far outside of it."""
    case = case_of(DECODER_QUERIES, dtype)
    sizes = level_sizes(torch.device("cpu"))
    rounded = locations(case, sizes).to(dtype)
    if in_half:  # TensorRT's kernel turns them into pixels in float16
        rounded = ((rounded * sizes[:, None].half() - 0.5).float() + 0.5) / sizes[:, None]
    offsets = (rounded.float() - case.reference_points[:, :, None, :, None]) * sizes[:, None]
    off = ms_deform_attn(case.value, SHAPES, case.reference_points, offsets, case.attention_logits)
    check, tolerance = attention_check(case), PEER_TOLERANCES[dtype]
    assert tolerance / 8 < check(off) < tolerance
    assert check(off.roll(1, dims=1)) > 2 * tolerance


def test_blocks_hold_as_many_queries_as_divide_all():
    assert block_threads(17824, 8, 32) == 32 * 16
    assert block_threads(5347, 8, 32) == 32  # a prime: one query a block
    assert block_threads(300, 8, 32) == 32 * 15
    assert block_threads(64, 1, 8) == 64
