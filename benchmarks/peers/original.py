"""The original formulation: the published Sparse DETR code, built from a checkout and exported to ONNX as it stands.

Nothing of that code is part of this package. The user gives a checkout (``--original PATH``), which is imported from
there, with stand-ins for what a CPU does not have. Deformable attention is the original's own PyTorch version of it.

One change is made from outside, because the sparse export does not load without it: the encoder writes refined tokens
back image by image, and slices by an int32 count what else is indexed by int64, which ONNX refuses. With one image the
count is that of all selected tokens, so the encoder is called without it and takes its own branch for equal counts.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_detr_deploy.benchmarks.peers.checkout import check_checkout
from sparse_detr_deploy.benchmarks.peers.ours import build_ours
from sparse_detr_deploy.benchmarks.peers.stand_ins import imports_from
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR

CHANGE = (
    "the encoder is called without sparse_token_nums (its own branch for equal counts), because its slice by an int32 "
    "count does not load in ONNX Runtime; the same for one image"
)
OPSET = 17
_PACKAGES = ("models", "util")
_MODULES = ("models.deformable_detr", "util.misc", "models.backbone")
_STOOD_IN = ("torchvision", "MultiScaleDeformableAttention", "panopticapi", "timm")
_OPTIONAL = ("scipy", "yaml", "matplotlib", "PIL")


class Original(nn.Module):
    """The original network behind a plain interface: images [1, 3, H, W] float32 to ``pred_logits`` and ``pred_boxes``.

    After a call ``selected_tokens`` [1, K] (sparse models) and ``topk_proposals`` [1, Q] show its selections.
    """

    def __init__(self, network: nn.Module, nested_tensor: Any) -> None:
        super().__init__()
        self.network = network
        self._nested_tensor = nested_tensor
        self.selected_tokens: Tensor | None = None
        self.topk_proposals: Tensor | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """pred_logits [1, Q, C] and pred_boxes [1, Q, 4] (cx, cy, w, h in 0..1)."""
        nothing_padded = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.bool)
        output = self.network(self._nested_tensor(images, nothing_padded))
        self.selected_tokens = output.get("backbone_topk_proposals")
        return output["pred_logits"], output["pred_boxes"]


def build_original(path: Path, model: SparseDETR) -> Original:
    """The original network of the architecture, keep ratio and weights of ``model``.

    Raises:
        InputError: ``path`` is not a checkout of the original code.
    """
    check_checkout(path)
    absent = [name for name in _OPTIONAL if importlib.util.find_spec(name) is None]
    with imports_from(path, _PACKAGES, [*_STOOD_IN, *absent]), contextlib.redirect_stdout(io.StringIO()):
        detr, misc, backbone = (importlib.import_module(name) for name in _MODULES)
        arguments = _arguments(model.config)
        network = detr.DeformableDETR(
            backbone.build_backbone(arguments),
            detr.build_deforamble_transformer(arguments),
            num_classes=model.config.num_classes,
            num_queries=model.config.num_queries,
            num_feature_levels=model.config.num_feature_levels,
            with_box_refine=model.config.with_box_refine,
            two_stage=model.config.two_stage,
            args=arguments,
        )
    network.load_state_dict(model.state_dict())
    for module in network.modules():
        if hasattr(module, "python_ops_for_test"):
            module.python_ops_for_test = True
    encoder = network.transformer.encoder
    encode = encoder.forward

    def encode_one_image(*values: Any, sparse_token_nums: Any = None, **named: Any) -> Any:
        return encode(*values, **named)

    encoder.forward = encode_one_image
    original = Original(network, misc.NestedTensor).eval()

    def remember_proposals(module: nn.Module, values: Any, named: dict[str, Any]) -> None:
        original.topk_proposals = named["topk_inds"]

    network.transformer.decoder.register_forward_pre_hook(remember_proposals, with_kwargs=True)
    return original


def export_original(checkout: Path, seed: int, rho: float | None, height: int, width: int, path: Path) -> None:
    """Write the naive ONNX export of the original network with our random weights."""
    export_naively(build_original(checkout, build_ours(seed, rho)), height, width, path)


def export_naively(module: nn.Module, height: int, width: int, path: Path) -> None:
    """Write what the tracing exporter makes of a module that takes images and gives logits and boxes (opset 17)."""
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, height, width),),
            str(path),
            input_names=["images"],
            output_names=["pred_logits", "pred_boxes"],
            opset_version=OPSET,
            dynamo=False,
        )


def _arguments(config: ModelConfig) -> argparse.Namespace:
    """The arguments of the published configurations, with the training code's defaults."""
    return argparse.Namespace(
        **config.to_dict(),
        dropout=0.1,
        lr_backbone=2e-5,
        masks=False,
        position_embedding="sine",
        backbone_from_scratch=True,
        finetune_early_layers=False,
        scrl_pretrained_path="",
    )
