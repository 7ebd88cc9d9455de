"""Where ONNX Runtime spends the time of an artefact, by kind of operator: a cross-check of the floor."""

from __future__ import annotations

import collections
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sparse_detr_deploy.native_ops import library_path
from sparse_detr_deploy.quiet_imports import import_onnxruntime
from sparse_detr_deploy.runners.onnxruntime import SLOW_CPU_OPTIMIZERS

_PRODUCTS = ("conv", "gemm", "matmul")


def profile(path: Path, image: Path, threads: int, runs: int = 5) -> dict[str, Any]:
    """Milliseconds of one run by operator, as ONNX Runtime's own profiler tells (its first run left out).

    ``image`` is a ``.npy`` file, float32 [1, 3, H, W]; the session is set up as the runner's is.

    Returns:
        ``operators`` (milliseconds by name, the most first), ``products_ms`` (convolutions and matrix products, with
        what is fused into them) and ``other_ms``. The profiler itself costs a little.
    """
    onnxruntime = import_onnxruntime()

    images = np.load(image)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    library = library_path()
    if library is not None:
        options.register_custom_ops_library(str(library))
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_CPU_OPTIMIZERS
        )
        for _ in range(runs + 1):
            session.run(None, {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"], event["args"]["op_name"]].append(event["dur"] / 1000)
    totals: collections.Counter[str] = collections.Counter()
    for (_, operator), durations in times.items():
        # a node has one event a run
        totals[operator] += sum(durations[1:]) / runs  # type: ignore[assignment]
    products = sum(time for name, time in totals.items() if any(word in name.lower() for word in _PRODUCTS))
    return {
        "operators": {name: round(time, 2) for name, time in totals.most_common()},
        "products_ms": round(products, 1),
        "other_ms": round(sum(totals.values()) - products, 1),
    }
