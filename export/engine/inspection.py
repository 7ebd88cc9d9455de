"""What a built engine computes in, from TensorRT's engine inspector. Needs the GPU that the engine was built for.

Not run yet on a real engine: no GPU was at hand. The parsed network is the proof where this cannot be had.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Callable
from typing import Any

from sparse_detr_deploy.errors import BackendError, VerificationError

_TYPES = {"HALF": r"\bfp16\b|\bhalf\b", "BF16": r"\bbf16\b|\bbfloat16\b", "FLOAT": r"\bfp32\b|\bfloat\b"}
_OTHER = "OTHER"
_UNTOLD = "UNTOLD"  # "N/A due to dynamic shapes" stands where a dimension is only known at the run


def inspect_engine(
    trt: Any,
    logger: Any,
    engine: Any,
    name: str,
    self_contained: bool = False,
    reason: Callable[[], str] = lambda: "it gives no reason",
) -> dict[str, int]:
    """Layers of ``engine`` (its bytes) by type, as :func:`count_types`; raises :class:`BackendError`, with ``reason()``."""
    runtime = trt.Runtime(logger)
    if self_contained:
        runtime.engine_host_code_allowed = True  # it holds our own library
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise BackendError(
            f"{name}: TensorRT {trt.__version__} does not load the engine that it has just built: {reason()}"
        )
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return count_types(json.loads(text, strict=False))  # names of layers may hold control characters


def count_types(document: dict[str, Any]) -> dict[str, int]:
    """Layers by the type of their first output, from the inspector's JSON.

    Where shapes are dynamic the inspector tells it of no tensor: then by the type of the weights, and ``UNTOLD`` without.
    """
    counts: collections.Counter[str] = collections.Counter()
    for layer in document.get("Layers", []):
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None
        if outputs:
            text = " ".join(str(outputs[0].get(key, "")) for key in ("Format/Datatype", "Datatype"))
            if "N/A" in text:
                weights = layer.get("Weights")
                text = str(weights.get("Type", "")) if isinstance(weights, dict) else ""
            counts[_type_of(text) if text.strip() else _UNTOLD] += 1
    return dict(sorted(counts.items()))


def check_types(name: str, counts: dict[str, int], precision: str) -> None:
    """Raise :class:`VerificationError` where the engine does not compute in ``precision``, fp32 or fp16.

    Types that the inspector does not tell speak for neither; the parsed network, which is strongly typed, was checked.
    """
    if not set(counts) - {_OTHER}:
        raise VerificationError(f"{name}: the inspector tells no types of the engine ({counts})")
    if precision == "fp16" and not counts.get("HALF") and not counts.get(_UNTOLD):
        raise VerificationError(f"{name}: float16 was asked for, but no layer of the engine is half ({counts})")
    if precision == "fp32" and (counts.get("HALF") or counts.get("BF16")):
        raise VerificationError(f"{name}: float32 was asked for, but the engine has layers of less ({counts})")


def _type_of(text: str) -> str:
    return next((name for name, pattern in _TYPES.items() if re.search(pattern, text.lower())), _OTHER)
