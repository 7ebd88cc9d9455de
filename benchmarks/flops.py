"""Complexity of the published models, without weights and without running them. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sparse_detr_deploy.export.random_weights import ARCHITECTURES
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name
from sparse_detr_deploy.modeling import ModelConfig, build_model, sparse_config
from sparse_detr_deploy.modeling.complexity import count
from sparse_detr_deploy.tokens import num_keep, num_tokens

VARIANTS = ("efficient", "deformable")


def complexity_rows(
    architecture: str, height: int, width: int, rhos: Sequence[float], variants: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Complexity of Sparse DETR at each of ``rhos``, and of dense models.

    Args:
        architecture: ``r50``, ``swint`` or ``thin18``.
        height: of the canvas, pixels.
        width: of the canvas, pixels.
        rhos: keep ratios in (0, 1].
        variants: dense models: ``efficient`` (two-stage, box refinement, queries from the encoder; Sparse DETR
            without the sparsity), ``deformable`` (plain Deformable DETR).

    Returns:
        For each: ``name``, ``rho`` (``None`` if dense), ``tokens``, ``kept`` (all if dense), ``gmacs`` (10⁹
        multiply-adds of one image as the paper counts them) and ``params`` (what inference uses: the encoder's
        auxiliary heads are left out).
    """
    backbone = ARCHITECTURES[architecture]
    rows = [_row(sparse_config(backbone, rho, use_enc_aux_loss=False), height, width) for rho in rhos]
    if "efficient" in variants:
        rows.append(_row(sparse_config(backbone, 0.0), height, width))
    if "deformable" in variants:
        row = _row(ModelConfig(backbone=backbone), height, width)
        rows.append({**row, "name": row["name"].replace("dense", "deformable")})
    return rows


def _row(config: ModelConfig, height: int, width: int) -> dict[str, Any]:
    spec = ExportSpec(height, width, rho=config.rho or None)
    with torch.device("meta"):
        model = build_model(config)
    level_shapes = model.level_shapes(height, width)
    spec.check_against(config, level_shapes)
    tokens = num_tokens(level_shapes)
    kept = num_keep(tokens, config.rho, tokens) if config.is_sparse else tokens
    return {
        "name": artefact_name(config, spec),
        "rho": config.rho if config.is_sparse else None,
        "tokens": tokens,
        "kept": kept,
        "gmacs": count(config, height, width, level_shapes).gmacs(kept),
        "params": sum(parameter.numel() for parameter in model.parameters()),
    }
