"""Our kernels beside those of others, on this GPU, in turn: ``python -m benchmarks.gpu.peer_table LIBRARY``.

Every contender is checked against float64 on the CPU first. Those that take softmaxed weights and ready locations get
them prepared outside the timing; the preparation by torch is timed too. All run in CUDA graphs over input sets that
overflow the cache, one replay of each in turn. The file is written after each row: what is cut short keeps its rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.errors import BackendError, InputError, SparseDetrError

from .cases import DECODER_QUERIES, RATIOS, AttentionCase, queries_at
from .json_file import check_json, write_json
from .kernel_table import SCORE_SETS, attention_sets
from .kernels import Kernels
from .peer_attention import grid_sample_attention
from .peer_build import CUB, RECORD, SOURCES
from .peer_library import PeerLibrary
from .peer_report import print_table, summary
from .peer_rows import Libraries, attention_row, compiled_peer, selection_row, type_name
from .timing import graph_stopwatch

DEVICE = "cuda"
MOST_TOKENS = 1 << 20  # that SelectTokens takes
COMPILED = "compiled_grid_sample"
COMPILE_SECONDS = 30  # what one compilation may take: none is begun with less left
WORK = [*((f"encoder ρ {ratio}", queries_at(ratio), False) for ratio in RATIOS), ("decoder", DECODER_QUERIES, True)]


def load_libraries(folder: Path | None) -> Libraries:
    """What ``peer_build`` left in a folder; for each that is not there, why."""
    names = [*SOURCES, CUB]
    if folder is None:
        return dict.fromkeys(names, "no folder of libraries was given (--libraries)")
    record = folder / RECORD
    try:
        entries = json.loads(record.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{record} cannot be read: {error}; run benchmarks.gpu.peer_build first") from error
    libraries: dict[str, PeerLibrary | str] = {}
    for name in names:
        entry = entries.get(name, {"left_out": f"{record} does not name it"})
        try:
            libraries[name] = PeerLibrary(folder / entry["library"]) if "library" in entry else entry["left_out"]
        except BackendError as error:
            libraries[name] = str(error)
    return libraries


def compiled_grid_sample() -> Callable[[AttentionCase, Tensor], Tensor]:
    """A fresh compilation: torch falls back to eager silently after a number of them for one function."""
    torch.compiler.reset()
    function: Callable[[AttentionCase, Tensor], Tensor] = torch.compile(grid_sample_attention, dynamic=False)
    return function


class PeerTable:
    """Writes rows to a file as they come, until the time is up."""

    def __init__(self, kernels: Kernels, libraries: Libraries, target: Path | None, budget: float) -> None:
        """``budget`` in seconds from now: no row is begun after it."""
        self._kernels, self._libraries, self._target = kernels, libraries, target
        self._end = time.monotonic() + budget
        properties = torch.cuda.get_device_properties(0)
        self.report: dict[str, Any] = {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "rows": [],
            "left_out": [],
        }

    def run(self) -> None:
        """Half precision first: the goal is in it."""
        plan: list[tuple[str, Callable[[], Any]]] = [
            *self._attention_plan(torch.float16),
            *self._selection_plan(),
            *self._attention_plan(torch.float32),
            *self._attention_plan(torch.bfloat16),
        ]
        for label, step in plan:
            if self._left() <= 0:
                self.report["left_out"].append({"row": label, "reason": "the time was up"})
                continue
            print(f"{label}: {self._left():.0f} s left", file=sys.stderr)
            self.report["rows"].append(step())
            self._write()
        self._compile()
        self._write()

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _attention(self, case: AttentionCase, output: Tensor) -> Tensor:
        return self._kernels.ms_deform_attn(*case.inputs, output=output)

    def _attention_plan(self, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
        for label, queries, box in WORK:

            def step(label: str = label, queries: int = queries, box: bool = box) -> dict[str, Any]:
                cases = attention_sets(queries, dtype, box=box)
                return {"case": label, **attention_row(cases, self._attention, self._libraries, graph_stopwatch)}

            yield f"MSDeformAttn {label} {type_name(dtype)}", step

    def _selection_plan(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        for batch, tokens in ((1, queries_at(1.0)), (4, queries_at(1.0)), (1, MOST_TOKENS)):
            for ratio in RATIOS[:3]:

                def step(batch: int = batch, tokens: int = tokens, ratio: float = ratio) -> dict[str, Any]:
                    scores = [torch.randn(batch, tokens, device=DEVICE) for _ in range(SCORE_SETS)]
                    keep, cub = int(ratio * tokens) + 1, self._libraries[CUB]
                    return {"case": f"ρ {ratio}", **selection_row(scores, keep, self._kernels, cub, graph_stopwatch)}

                yield f"SelectTokens batch {batch}, {tokens} tokens, ρ {ratio}", step

    def _compile(self) -> None:
        """Last, since a compilation takes long: the compiled grid_sample, in half precision."""
        for row in self.report["rows"]:
            if row["op"] != "MSDeformAttn":
                continue
            if row["type"] != "float16":
                row["peers"][COMPILED] = {"left_out": "compiled for float16 only, to keep the run short"}
            elif self._left() < COMPILE_SECONDS:
                row["peers"][COMPILED] = {"left_out": "the time was up"}
            else:
                cases = attention_sets(row["queries"], torch.float16, box=row["case"] == "decoder")
                try:
                    compiled = compiled_grid_sample()
                    row["peers"][COMPILED] = compiled_peer(cases, self._attention, compiled, graph_stopwatch)
                except RuntimeError as error:  # dynamo's, Triton's and CUDA's errors are all of this class
                    row["peers"][COMPILED] = {"left_out": f"torch.compile failed: {str(error)[:500]}"}
                self._write()

    def _write(self) -> None:
        self.report["summary"] = summary(self.report["rows"])
        if self._target:
            write_json(self._target, self.report)


def main() -> int:
    """Run everything that the time allows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="libsparse_detr_kernels_c.so")
    parser.add_argument("--libraries", type=Path, help="folder that peer_build wrote (default: torch and ours only)")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--budget", type=float, default=240, help="seconds after which no row is begun")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no NVIDIA GPU that torch can use: nothing to time", file=sys.stderr)
        return BackendError.exit_code
    try:
        if options.json:
            check_json(options.json)
        table = PeerTable(Kernels(options.library), load_libraries(options.libraries), options.json, options.budget)
        table.run()
    except SparseDetrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except RuntimeError as error:  # torch's class for CUDA's errors: no call after one can be trusted
        print(f"CUDA failed; the rows before it are in {options.json}: {error}", file=sys.stderr)
        return BackendError.exit_code
    print_table(table.report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
