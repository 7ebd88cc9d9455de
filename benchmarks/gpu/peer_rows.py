"""Rows of the table of others' kernels: what is put side by side in each, and how it is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.errors import SparseDetrError
from sparse_detr_deploy.modeling.ops import ms_deform_attn, select_tokens

from .cases import SHAPES, AttentionCase
from .contenders import OURS, Check, Contender, compare
from .kernels import Kernels
from .peer_attention import PEER_KERNELS, PeerCall, PeerKernel, grid_sample_attention, level_sizes
from .peer_library import PeerLibrary
from .peer_selection import cub_contenders, our_selection, selection_check, torch_contenders
from .timing import REPLAYS, WARM_UP, Stopwatch

Libraries = Mapping[str, PeerLibrary | str]
"""By name; a text is why there is none."""
Attention = Callable[[AttentionCase, Tensor], Any]
"""Our kernel: writes a case's result into an output [B, Q, M·D]."""

OUR_TOLERANCES = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
# Kernels that take locations in their own type lose up to 0.03 (float16) or 0.25 pixels (bfloat16) by it, and
# TensorRT's, which also turns them into pixels in float16, up to 0.06. The values are white noise, where that
# tells most; a wrong layout gives an error above 1.
PEER_TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}


def type_name(dtype: torch.dtype) -> str:
    """``float16`` for ``torch.float16``."""
    return str(dtype).removeprefix("torch.")


def attention_check(case: AttentionCase) -> Check:
    """‖out − ref‖ / ‖ref‖ against float64 on the CPU, on the inputs as they are rounded."""
    value, shapes, *rest = case.inputs
    expected = ms_deform_attn(value.double().cpu(), shapes, *(part.double().cpu() for part in rest))

    def check(output: Tensor) -> float:
        return float((output.double().cpu() - expected).norm() / expected.norm())

    return check


def our_attention(cases: Sequence[AttentionCase], attention: Attention) -> Contender:
    """Our kernel on all input sets."""
    outputs = [case.value.new_empty(*case.sampling_offsets.shape[:2], case.value.shape[2:].numel()) for case in cases]
    runs = [
        lambda case=case, output=output: attention(case, output)  # type: ignore[misc]
        for case, output in zip(cases, outputs, strict=True)
    ]
    return Contender(runs, lambda: outputs[0], OUR_TOLERANCES[cases[0].value.dtype], outputs[0])


def peer_contender(kernel: PeerKernel, libraries: Libraries, cases: Sequence[AttentionCase]) -> Contender | str:
    """A kernel of others on all input sets, or why there is none."""
    library = libraries[kernel.library]
    if isinstance(library, str):
        return library
    try:
        calls = [PeerCall(kernel, library, case) for case in cases]
    except SparseDetrError as why:
        return str(why)
    first = calls[0]
    note = f"computes in {type_name(first.type)}"
    runs, prepare = [call.launch for call in calls], [call.prepare for call in calls]
    return Contender(runs, first.result, PEER_TOLERANCES[first.type], first.output, prepare, note)


def torch_contender(cases: Sequence[AttentionCase], function: Callable[[AttentionCase, Tensor], Tensor]) -> Contender:
    """A form of :func:`grid_sample_attention`."""
    sizes = level_sizes(cases[0].value.device)
    runs = [lambda case=case: function(case, sizes) for case in cases]  # type: ignore[misc]
    tolerance = OUR_TOLERANCES[cases[0].value.dtype]
    return Contender(runs, lambda: function(cases[0], sizes), tolerance, note="computes in float32")


def attention_row(
    cases: Sequence[AttentionCase],
    attention: Attention,
    libraries: Libraries,
    stopwatch: Stopwatch,
    *,
    rounds: int = REPLAYS,
    warm_up: int = WARM_UP,
) -> dict[str, Any]:
    """Ours, every kernel of others and torch's grid_sample on the same cases."""
    contenders: dict[str, Contender | str] = {OURS: our_attention(cases, attention)}
    for name, kernel in PEER_KERNELS.items():
        contenders[name] = peer_contender(kernel, libraries, cases)
    contenders["grid_sample"] = torch_contender(cases, grid_sample_attention)
    row = {"op": "MSDeformAttn", "queries": cases[0].sampling_offsets.shape[1], "tokens": cases[0].value.shape[1]}
    row.update(type=type_name(cases[0].value.dtype), input_sets=len(cases), shapes=SHAPES)
    return {**row, **compare(contenders, attention_check(cases[0]), stopwatch, rounds=rounds, warm_up=warm_up)}


def compiled_peer(
    cases: Sequence[AttentionCase],
    attention: Attention,
    compiled: Callable[[AttentionCase, Tensor], Tensor],
    stopwatch: Stopwatch,
    *,
    rounds: int = REPLAYS,
    warm_up: int = WARM_UP,
) -> dict[str, Any]:
    """The entry of the compiled grid_sample, with ours timed again beside it (``ours_us``)."""
    contenders = {OURS: our_attention(cases, attention), "compiled": torch_contender(cases, compiled)}
    row = compare(contenders, attention_check(cases[0]), stopwatch, rounds=rounds, warm_up=warm_up)
    entry: dict[str, Any] = {**row["peers"]["compiled"], "ours_us": row["us"]}
    return entry


def selection_row(
    scores: Sequence[Tensor], keep: int, kernels: Kernels, cub: PeerLibrary | str, stopwatch: Stopwatch
) -> dict[str, Any]:
    """Ours, CUB and torch on the same scores, each [B, N] float32."""
    first = scores[0]
    contenders = {
        **our_selection(kernels, scores, keep),
        **cub_contenders(cub, scores, keep),
        **torch_contenders(scores, keep),
    }
    expected = select_tokens(first.cpu(), torch.full((first.shape[0],), keep))
    row = {"op": "SelectTokens", "batch": first.shape[0], "tokens": first.shape[1], "kept": keep, "type": "float32"}
    row["input_sets"] = len(scores)
    return {**row, **compare(contenders, selection_check(first, expected), stopwatch)}
