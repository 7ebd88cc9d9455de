"""Our own artefacts, as the pipeline exports and verifies them, with random weights."""

from __future__ import annotations

from pathlib import Path

from sparse_detr_deploy.export.pipeline import export_artefacts
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name
from sparse_detr_deploy.modeling import SparseDETR


def build_ours(seed: int, rho: float | None) -> SparseDETR:
    """Our R50 network, sparse at ``rho`` or dense (``None``). Weights go by name, so tensors of one name are the same."""
    return random_model("r50", seed, rho=0.0 if rho is None else rho)


def export_ours(seed: int, rho: float | None, height: int, width: int, folder: Path, reuse: bool) -> tuple[Path, Path]:
    """Two artefacts: with the custom ops, and with these expanded into standard ones (for OpenVINO).

    With ``reuse`` files that are there are taken as they are.

    Raises:
        VerificationError: an artefact differs from the module.
    """
    model = build_ours(seed, rho)
    specs = [ExportSpec(height, width, rho=rho, inline_functions=inlined) for inlined in (False, True)]
    calling, inlined = (folder / f"{artefact_name(model.config, spec)}.onnx" for spec in specs)
    if not (reuse and calling.exists() and inlined.exists()):
        export_artefacts(model, specs, folder, overwrite=True)
    return calling, inlined
