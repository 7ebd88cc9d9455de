"""What is exported: the network for one canvas, with pre- and post-processing that belongs into the graph."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from sparse_detr_deploy.export.precision import HalfDetector
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.metadata import IMAGENET_MEAN, IMAGENET_STD
from sparse_detr_deploy.modeling import DetectorOutput, SparseDETR
from sparse_detr_deploy.modeling.backbones.resnet import fold_batch_norms
from sparse_detr_deploy.modeling.token_grid import TokenGrid


class ExportedModule(nn.Module):
    """A copy of ``model`` in the precision of ``spec``; float32 (or uint8) images in, float32 and int32 out."""

    def __init__(self, model: SparseDETR, spec: ExportSpec) -> None:
        super().__init__()
        self.spec = spec
        network = copy.deepcopy(model)
        fold_batch_norms(network)
        self.model = HalfDetector(network) if spec.precision == "fp16" else network
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(IMAGENET_STD).view(3, 1, 1) * 255))
        self.grid_fields: list[str] = []
        self.mean: Tensor
        self.scale: Tensor
        if not spec.padded:
            grid = self.model.grid(spec.height, spec.width)
            if grid.embedding is None:
                embedding = model.transformer.embed(grid, model.level_shapes(spec.height, spec.width))
                grid = dataclasses.replace(grid, embedding=embedding)
            for field in dataclasses.fields(grid):
                value = getattr(grid, field.name)
                if value is not None:
                    self.grid_fields.append(field.name)
                    self.register_buffer(f"grid_{field.name}", value.detach())

    def forward(self, images: Tensor, image_sizes: Tensor | None = None, num_keep: Tensor | None = None) -> Any:
        """Outputs in the order of the file's."""
        spec, config = self.spec, self.model.config
        if spec.uint8_input:
            images = (images.float() - self.mean) * self.scale
        if image_sizes is not None:
            images = images * _canvas_mask(image_sizes, spec.height, spec.width) if spec.uint8_input else images
            grid = self.model.grid(spec.height, spec.width, image_sizes)
        else:
            grid = TokenGrid(**{name: getattr(self, f"grid_{name}") for name in self.grid_fields})
        keep_ratio: float | Tensor | None = num_keep
        if num_keep is None and config.is_sparse:
            keep_ratio = spec.rho
        output: DetectorOutput = self.model(images, image_sizes, keep_ratio, grid=grid)
        if spec.outputs == "raw":
            return output.pred_logits, output.pred_boxes
        return detections(output.pred_logits, output.pred_boxes, spec.num_detections)


def detections(logits: Tensor, boxes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` best (query, class) pairs, as the original post-processing takes them.

    Returns boxes [B, T, 4] (x1, y1, x2, y2 in 0..1), scores [B, T] descending and labels [B, T] int32.
    """
    classes = logits.shape[-1]
    top = logits.flatten(1).topk(count, dim=1)
    query = top.indices // classes
    labels = top.indices - query * classes
    chosen = boxes.gather(1, query[:, :, None].expand(-1, -1, 4))
    centre, size = chosen[..., :2], chosen[..., 2:]
    corners = torch.cat([centre - 0.5 * size, centre + 0.5 * size], dim=-1)
    return corners, top.values.sigmoid(), labels.int()


def _canvas_mask(image_sizes: Tensor, height: int, width: int) -> Tensor:
    """float32 [B, 1, H, W]: 1 where the canvas shows image."""
    rows = torch.arange(height) < image_sizes[:, :1]
    columns = torch.arange(width) < image_sizes[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()
