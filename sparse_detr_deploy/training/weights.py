"""Weights of a run: how they start, how batch norms are trained, and their moving average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.checkpoint import load_checkpoint
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR, build_model
from sparse_detr_deploy.modeling.attention import MSDeformAttn
from sparse_detr_deploy.modeling.backbones.resnet import FrozenBatchNorm2d
from sparse_detr_deploy.tokens import num_tokens
from sparse_detr_deploy.training.objectness import ObjectnessHead, select_by_objectness


def initial_model(
    config: ModelConfig, seed: int, saliency: str = "dam", backbone_weights: str | Path = ""
) -> SparseDETR:
    """A network to train: weights of ``seed``, batch norms that learn; the backbone of the checkpoint at
    ``backbone_weights``, where one is given.

    Raises:
        CheckpointError: ``backbone_weights`` cannot be read.
        InputError: its backbone is another one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(config, saliency)
        with torch.no_grad():
            _initialise(model)
    if backbone_weights:
        model.backbone.load_state_dict(_backbone_state(backbone_weights, config))
    thaw_batch_norms(model)
    return model.train()


def _initialise(model: SparseDETR) -> None:
    """As the original: Xavier in transformer and projections, points that fan out, small boxes of a decoder without
    first stage; convolutions He."""
    for module in model.backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for module in model.input_proj.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.xavier_uniform_(module.weight)
            module.bias.zero_()
    parts: list[nn.Module] = [model.class_embed, model.bbox_embed]
    parts += [module for module in model.modules() if isinstance(module, ObjectnessHead)]
    heads = {id(parameter) for part in parts for parameter in part.parameters()}
    for parameter in model.transformer.parameters():
        if parameter.ndim > 1 and id(parameter) not in heads:
            nn.init.xavier_uniform_(parameter)
    nn.init.normal_(model.transformer.level_embed)
    for module in model.transformer.modules():
        if isinstance(module, MSDeformAttn):
            module.reset_parameters()
            for projection in (module.value_proj, module.output_proj):
                projection.bias.zero_()
    if not model.config.two_stage:
        model.bbox_embed[0].layers[-1].bias[2:] = -2.0  # type: ignore[union-attr,index,operator]
        model.transformer.reference_points.bias.zero_()


def _backbone_state(path: str | Path, config: ModelConfig) -> dict[str, Tensor]:
    found = load_checkpoint(path)
    if found.config.backbone != config.backbone:
        raise InputError(f"backbone_weights {path} has the backbone {found.config.backbone}, not {config.backbone}")
    state: dict[str, Tensor] = found.backbone.state_dict()
    return state


def check_canvas(config: ModelConfig, height: int, width: int) -> None:
    """Raise :class:`InputError` where images of ``height`` × ``width`` have fewer tokens than a first stage proposes."""
    with torch.device("meta"):
        tokens = num_tokens(build_model(config).level_shapes(height, width))
    if config.two_stage and tokens < config.num_queries:
        raise InputError(
            f"model.num_queries is {config.num_queries}, but scenes of {height}×{width} have only {tokens} tokens "
            "to propose: ask for fewer queries or larger scenes"
        )


def thaw_batch_norms(module: nn.Module) -> None:
    """Replace every frozen batch norm below ``module`` by one that learns, with the same values and names."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            norm = nn.BatchNorm2d(len(child.weight), eps=child.epsilon)
            norm.load_state_dict(child.state_dict(), strict=False)
            setattr(module, name, norm)
        else:
            thaw_batch_norms(child)


def inference_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` as a network with frozen batch norms takes it."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def inference_model(config: ModelConfig, state: dict[str, Tensor], saliency: str = "dam") -> SparseDETR:
    """The network of ``state`` in eval mode."""
    model = _build(config, saliency)
    model.load_state_dict(inference_state(state))
    return model.eval()


def _build(config: ModelConfig, saliency: str) -> SparseDETR:
    model = build_model(config)
    return select_by_objectness(model) if saliency == "objectness" else model


class MovingAverage:
    """Exponential moving average of a network's state; young averages forget faster."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged, present = [], []
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                averaged.append(self.state[key])
                present.append(value)
            else:
                self.state[key].copy_(value)
        torch._foreach_lerp_(averaged, present, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """For a resumable state."""
        return {"updates": self.updates, "state": self.state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from ``saved``."""
        self.updates = saved["updates"]
        for key, value in saved["state"].items():
            self.state[key].copy_(value)
