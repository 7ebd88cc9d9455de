"""Time the kernels on this GPU and print a table and JSON: ``python -m benchmarks.gpu.kernel_table LIBRARY --json FILE``.

Medians over replays of a CUDA graph in which several input sets follow one another, so that no launch gap and no
cache full of one call's data enters. Each row is timed twice; the difference is its noise. torch's form of the
attention copies the level sizes from the host and cannot be captured: it is timed as it stands, launches included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.modeling.ops import ms_deform_attn

from .cases import DECODER_QUERIES, RATIOS, SHAPES, AttentionCase, attention_case, queries_at
from .json_file import check_json, write_json
from .kernels import ALWAYS_SPLIT, NEVER_SPLIT, Kernels
from .timing import Call, cache_size, input_sets, time_calls

SCORE_SETS = 4  # small enough to stay in the cache, where the network has just written them
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def copy_bandwidth() -> float:
    """Bytes per second of a large copy on the device, read and written counted."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / (time_calls([lambda: target.copy_(source)]) * 1e-6)


def attention_rows(kernels: Kernels, bandwidth: float, compiled: Callable[..., Tensor] | None) -> list[dict[str, Any]]:
    """One row for each type and number of queries: ours in both work splits, and torch's grid_sample."""
    rows = []
    work = [(f"encoder ρ {ratio}", queries_at(ratio), False) for ratio in RATIOS]
    for label, queries, box in [*work, ("decoder", DECODER_QUERIES, True)]:
        for name, dtype in DTYPES.items():
            sets = attention_sets(queries, dtype, box=box)
            outputs = [kernels.ms_deform_attn(*case.inputs) for case in sets]
            row: dict[str, Any] = {"op": "MSDeformAttn", "case": label, "queries": queries, "type": name}
            row["input_sets"] = len(sets)
            for key, split in (("whole_us", NEVER_SPLIT), ("split_us", ALWAYS_SPLIT)):
                calls = [ours(kernels, case, output, split) for case, output in zip(sets, outputs, strict=True)]
                first, second = time_calls(calls), time_calls(calls)
                row[key], row[f"{key}_noise"] = min(first, second), abs(first - second)
            row["us"] = min(row["whole_us"], row["split_us"])
            row["floor_us"] = sets[0].floor_bytes / bandwidth * 1e6
            row["gathered_tb_per_s"] = sets[0].gathered_bytes / row["us"] * 1e-6
            row["grid_sample_us"] = time_calls([theirs(ms_deform_attn, case) for case in sets], in_graph=False)
            if compiled is not None:
                row["compiled_grid_sample_us"] = time_calls([theirs(compiled, case) for case in sets], in_graph=False)
            rows.append(row)
    return rows


def attention_sets(queries: int, dtype: torch.dtype, *, box: bool) -> list[AttentionCase]:
    """As many cases as overflow the GPU's cache."""
    first = attention_case(queries, dtype, 0, box=box)
    count = input_sets(first.floor_bytes, cache_size())
    return [first, *(attention_case(queries, dtype, seed, box=box) for seed in range(1, count))]


def ours(kernels: Kernels, case: AttentionCase, output: Tensor, split: int) -> Call:
    """A call of our kernel."""
    return lambda: kernels.ms_deform_attn(*case.inputs, output=output, split=split)


def theirs(function: Callable[..., Tensor], case: AttentionCase) -> Call:
    """A call of the twin, everything in the type of the value."""
    value, shapes, *rest = case.inputs
    arguments = [tensor.to(value.dtype) for tensor in rest]
    return lambda: function(value, shapes, *arguments)


def selection_rows(kernels: Kernels) -> list[dict[str, Any]]:
    """SelectTokens against torch.topk, which neither sorts the indices nor settles ties."""
    rows = []
    for tokens in (queries_at(1.0), 1 << 20):
        for ratio in RATIOS[:3]:
            count = int(ratio * tokens) + 1
            scores = [torch.randn(1, tokens, device="cuda") for _ in range(SCORE_SETS)]
            outputs = [kernels.select_tokens(score, None, count) for score in scores]
            calls = [
                (
                    lambda score=score, output=output, count=count: kernels.select_tokens(
                        score, None, count, output=output
                    )
                )
                for score, output in zip(scores, outputs, strict=True)
            ]
            topk = [(lambda score=score, count=count: torch.topk(score, count, dim=1)) for score in scores]
            row = {"op": "SelectTokens", "case": f"ρ {ratio}", "tokens": tokens, "kept": count, "type": "float32"}
            rows.append({**row, "us": time_calls(calls), "topk_us": time_calls(topk)})
    return rows


def main() -> int:
    """Run everything; exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="libsparse_detr_kernels_c.so")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--compile", action="store_true", help="time torch.compile of the twin too (minutes)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no NVIDIA GPU that torch can use: nothing to time", file=sys.stderr)
        return 7
    if options.json:
        check_json(options.json)
    kernels = Kernels(options.library)
    properties = torch.cuda.get_device_properties(0)
    bandwidth = copy_bandwidth()
    compiled = torch.compile(ms_deform_attn, dynamic=False) if options.compile else None
    report = {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "copy_tb_per_s": bandwidth * 1e-12,
        "shapes": SHAPES,
        "rows": [*attention_rows(kernels, bandwidth, compiled), *selection_rows(kernels)],
    }
    text = json.dumps(report, indent=1)
    if options.json:
        write_json(options.json, report)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
