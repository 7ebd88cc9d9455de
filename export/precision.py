"""A detector that computes in half precision, with float32 islands where half would lose too much.

In a strongly typed engine the precision is what the graph says, so the casts are made here, once, before the export.
A layer computes in the type of its weights, everything else in the type that its operands promote to. What is float32
is thus decided by the weights that stay float32 and by the inputs that start so:

- reference points, proposals and boxes: a half has 11 bits, half a pixel of 1066. The last layer of the box heads, the
  inverse sigmoid and the refinement follow; they see a few hundred queries only.
- token scores: the last layer of the scoring network. In half, four of ten tokens share their score with another one
  (R50, 480×640; less than one in twenty in float32), and the lower index would win. How many selected tokens are those
  of the float32 network does not depend on it: 99.9 % either way.
- logits of the detections, for the same reason. The first stage's logits of all tokens are half: their layer is wide.
- layer and group norms, softmax, and the mean over all tokens, whose sum may be too large for a half.
- position embeddings, until they are complete, and learnt queries, until their first layer.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sparse_detr_deploy.modeling import DetectorOutput, SparseDETR
from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.modeling.token_grid import TokenGrid

_WEIGHTED = (F.linear, F.conv2d)
# not left to the runtime: TensorRT 11 no longer says what type a normalisation of halves computes in
_NORMS = (F.layer_norm, F.group_norm)
_IN_FLOAT32 = (Tensor.softmax, Tensor.mean)


class _Casts(TorchFunctionMode):
    """Casts before layers, and around what is computed in float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _WEIGHTED:
            return func(args[0].to(args[1].dtype), *args[1:], **kwargs)
        if func in _NORMS:
            return func(args[0].float(), *args[1:], **kwargs).half()
        if func in _IN_FLOAT32:
            return func(args[0].float(), *args[1:], **kwargs).to(args[0].dtype)
        return func(*args, **kwargs)


class HalfDetector(nn.Module):
    """``network`` in half precision: the same calls, float32 outputs. Converts its weights in place, so give a copy."""

    def __init__(self, network: SparseDETR) -> None:
        super().__init__()
        self.network = network
        self.config: ModelConfig = network.config
        last = self.config.dec_layers - 1
        # where the first stage shares the head, its wide product over all tokens stays half
        network.class_embed[last] = copy.deepcopy(network.class_embed[last])
        kept = {id(parameter) for part in _float32_parts(network) for parameter in part.parameters()}
        kept.add(id(network.transformer.level_embed))
        for parameter in network.parameters():
            if id(parameter) not in kept:
                parameter.data = parameter.data.half()

    def grid(self, height: int, width: int, image_sizes: Tensor | None = None) -> TokenGrid:
        """As :meth:`SparseDETR.grid`, with the embedding; positions and proposals float32, factors half."""
        grid = self.network.grid(height, width, image_sizes)
        embedding = self.network.transformer.embed(grid, self.network.level_shapes(height, width))
        return dataclasses.replace(
            grid,
            embedding=embedding.half(),
            is_proposal=grid.is_proposal.half(),
            is_image=None if grid.is_image is None else grid.is_image.half(),
        )

    def forward(
        self,
        images: Tensor,
        image_sizes: Tensor | None = None,
        keep_ratio: float | Tensor | None = None,
        *,
        grid: TokenGrid | None = None,
        **options: Any,
    ) -> DetectorOutput:
        """As :meth:`SparseDETR.forward`; ``grid`` must come from :meth:`grid`."""
        if grid is None:
            grid = self.grid(images.shape[2], images.shape[3], image_sizes)
        with _Casts():
            output: DetectorOutput = self.network(images, image_sizes, keep_ratio, grid=grid, **options)
        return output


def _float32_parts(network: SparseDETR) -> list[nn.Module]:
    """The layers that keep float32 weights, and so compute in float32."""
    config, transformer = network.config, network.transformer
    parts: list[nn.Module] = [
        module for module in network.modules() if isinstance(module, (nn.GroupNorm, nn.LayerNorm))
    ]
    parts.append(network.class_embed[config.dec_layers - 1])
    parts += [head.layers[-1] for head in network.bbox_embed]  # type: ignore[union-attr,index,misc]
    if config.is_sparse:
        parts.append(transformer.enc_mask_predictor.layer2[-1])
    if not config.two_stage:  # constants: the reference points of the learnt queries
        parts += [network.query_embed, transformer.reference_points]
    return parts
