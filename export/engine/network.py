"""The parsed network: what each call became, and which types it computes in. Taken as proof, not as asked for."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

from sparse_detr_deploy.errors import BackendError, VerificationError

PLUGIN_TYPES = ("PLUGIN", "PLUGIN_V2", "PLUGIN_V3")
PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")  # where nearly all arithmetic is
_REDUCED = ("HALF", "BF16", "FP8", "INT8", "INT4", "FP4")


@dataclasses.dataclass(frozen=True)
class NetworkSummary:
    """Counts of layers.

    Attributes:
        layer_types: layers by the type of their first output, such as ``{"HALF": 812}``.
        products: convolutions and matrix products, by layer kind and type.
        plugins: plugin layers by their op.
    """

    layer_types: dict[str, int]
    products: dict[str, dict[str, int]]
    plugins: dict[str, int]


def summarise(network: Any) -> NetworkSummary:
    """Look at every layer of ``network``."""
    types: collections.Counter[str] = collections.Counter()
    products: dict[str, collections.Counter[str]] = {}
    plugins: collections.Counter[str] = collections.Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type.name
        dtype = layer.get_output(0).dtype.name if layer.num_outputs else "NONE"
        types[dtype] += 1
        if kind in PRODUCTS:
            products.setdefault(kind, collections.Counter())[dtype] += 1
        if kind in PLUGIN_TYPES:
            plugins[layer.name.split("_")[0]] += 1  # the preparation names the nodes so
    return NetworkSummary(
        dict(sorted(types.items())),
        {kind: dict(sorted(counts.items())) for kind, counts in sorted(products.items())},
        dict(sorted(plugins.items())),
    )


def check_plugins(name: str, summary: NetworkSummary, expected: dict[str, int], allow_fallback: bool) -> bool:
    """Whether every custom op became a plugin layer.

    Raises:
        BackendError: some did not, and ``allow_fallback`` is not given.
    """
    if all(summary.plugins.get(op) == count for op, count in expected.items()):  # TensorRT may add plugins of its own
        return True
    calls = ", ".join(f"{summary.plugins.get(op, 0)} of {count} {op}" for op, count in expected.items())
    if not allow_fallback:
        raise BackendError(
            f"{name}: TensorRT took the plugin for {calls} only; the others would run as standard "
            "ops. Is the plugin library of this version? 'sparse-detr-export doctor' tells; "
            "--allow-fallback builds all the same"
        )
    return False


def check_precision(name: str, summary: NetworkSummary, precision: str) -> None:
    """Raise :class:`VerificationError` where the parsed network does not compute in ``precision``, fp32 or fp16."""
    if precision == "fp32":
        reduced = {dtype: count for dtype, count in summary.layer_types.items() if dtype in _REDUCED}
        if reduced:
            raise VerificationError(f"{name}: float32 was asked for, but the parsed network has layers of {reduced}")
        return
    for kinds, title in ((PRODUCTS[:2], "convolutions"), (PRODUCTS[2:], "matrix products")):
        counts = collections.Counter[str]()
        for kind in kinds:
            counts.update(summary.products.get(kind, {}))
        half = counts["HALF"]
        if half == 0 or half < counts.total() - half:
            raise VerificationError(
                f"{name}: float16 was asked for, but of {counts.total()} {title} of the parsed network only {half} are "
                "half precision: this is a fault of the export, and the engine would be as slow as a float32 one"
            )
