"""Options of ``sparse-detr-bench run``: what nothing would follow is refused before any work."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.contenders import Runtime, is_engine
from sparse_detr_deploy.benchmarks.running import RunSettings
from sparse_detr_deploy.errors import InputError

_OF_ENGINES = {
    "device": "--device",
    "cuda_graphs": "--[no-]cuda-graphs",
    "contexts": "--contexts",
    "allow_host_code": "--allow-host-code",
}
_OF_FILES = {"backend": "--backend", "provider": "--provider", "threads": "--threads"}


def run_settings(artefacts: Sequence[Path], options: Mapping[str, Any], given: Collection[str]) -> RunSettings:
    """Settings of a run.

    Args:
        artefacts: to run.
        options: of the command line, by name.
        given: names of those that the user gave, be it the default.

    Raises:
        InputError: an option is not usable, or is for engines or for ONNX files, and there are none.
    """
    engines = [is_engine(path) for path in artefacts]
    for name, flag in _OF_ENGINES.items():
        if name in given and not any(engines):
            hint = ""
            if name == "device" and options["provider"] == "cuda":
                hint = " (ONNX Runtime takes the first GPU that it sees: choose it with CUDA_VISIBLE_DEVICES)"
            raise InputError(f"{flag} is for engines, and there is none among the artefacts: leave it out{hint}")
    for name, flag in _OF_FILES.items():
        if name in given and all(engines):
            raise InputError(
                f"{flag} is for ONNX files, and there are only engines among the artefacts, which bring their TensorRT: "
                "leave it out"
            )
    runtime = ("backend", "provider", "threads", "device", "cuda_graphs", "allow_host_code")
    others = ("keep_ratios", "batch", "warmup", "rounds", "images", "annotations")
    return RunSettings(
        runtime=Runtime(**{name: options[name] for name in runtime}),
        contexts=parse_contexts(options["contexts"]),
        **{name: options[name] for name in others},
    )


def parse_contexts(text: str) -> tuple[int, ...]:
    """``1,2,4`` gives (1, 2, 4)."""
    counts = text.replace(" ", "").split(",")
    if not all(re.fullmatch("[0-9]{1,2}", count) and 1 <= int(count) <= 64 for count in counts):
        raise InputError(f"--contexts {text!r} is no list of numbers from 1 to 64, such as 1,2,4")
    return tuple(dict.fromkeys(map(int, counts)))
