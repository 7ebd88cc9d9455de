"""What one training step computes, in each phase of a run."""

from __future__ import annotations

from torch import Tensor, nn

from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.tokens import LevelShapes
from sparse_detr_deploy.training.batches import Batch
from sparse_detr_deploy.training.config import TrainingConfig
from sparse_detr_deploy.training.criterion import Criterion, saliency_losses
from sparse_detr_deploy.training.cross_attention_map import recorded_cross_attention
from sparse_detr_deploy.training.objectness import ObjectnessHead
from sparse_detr_deploy.training.pretraining import dense_losses, dense_prediction

PHASES = ("pretraining", "training")


class DensePhase:
    """Backbone and first stage only; in the first ``classes_first`` steps nothing but the classes."""

    def __init__(self, config: TrainingConfig, model: SparseDETR) -> None:
        self.classes_first = config.classes_first
        self.criterion = Criterion()
        self.grid, self.shapes = _geometry(config, model)

    def __call__(
        self, model: SparseDETR, batch: Batch, num_boxes: float, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The dense losses, which each process normalises by its own objects."""
        prediction = dense_prediction(model, batch.images, self.grid)
        losses = dense_losses(prediction, batch.targets, self.shapes)
        learnt = losses if step >= self.classes_first else {"loss_softmax": losses["loss_softmax"]}
        return self.criterion.total(learnt), losses


class DetectorPhase:
    """The whole detector with the paper's losses."""

    def __init__(self, config: TrainingConfig, model: SparseDETR) -> None:
        self.criterion = Criterion(specific_head=config.model.eff_specific_head)
        self.grid, self.shapes = _geometry(config, model)

    def __call__(
        self, model: SparseDETR, batch: Batch, num_boxes: float, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of every head, of the scoring network, and Corr (which is no part of the sum)."""
        with recorded_cross_attention(model) as sampled:
            output = model(batch.images, grid=self.grid, auxiliary=True)
        losses = self.criterion(output, batch.targets, num_boxes)
        if not model.config.is_sparse:
            return self.criterion.total(losses), losses
        found, correlation = saliency_losses(output, sampled, self.grid, self.shapes, model.config.rho)
        scorer: nn.Module = model.transformer.enc_mask_predictor
        if isinstance(scorer, ObjectnessHead):
            found = self.criterion.of(scorer.prediction(self.grid), batch.targets, num_boxes, "_backbone")
        losses |= found
        return self.criterion.total(losses), losses | {"corr": correlation}


def _geometry(config: TrainingConfig, model: SparseDETR) -> tuple[TokenGrid, LevelShapes]:
    height, width = config.scenes.height, config.scenes.width
    grid = model.grid(height, width).to(model.transformer.level_embed.device)
    return grid, model.level_shapes(height, width)
