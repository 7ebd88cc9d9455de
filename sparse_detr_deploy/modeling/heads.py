"""Small modules shared by encoder and decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them: the box head, [..., hidden] to [..., 4]."""

    def __init__(self, in_features: int, hidden_features: int, out_features: int, num_layers: int) -> None:
        super().__init__()
        sizes = [in_features, *[hidden_features] * (num_layers - 1), out_features]
        self.layers = nn.ModuleList(nn.Linear(size, sizes[index + 1]) for index, size in enumerate(sizes[:-1]))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layers to the last dimension."""
        *hidden, last = self.layers
        for layer in hidden:
            features = F.relu(layer(features))
        result: Tensor = last(features)
        return result


def inverse_sigmoid(probability: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Logit of values in 0..1, clamped away from the ends as in Deformable DETR."""
    probability = probability.clamp(0, 1)
    return torch.log(probability.clamp(min=epsilon) / (1 - probability).clamp(min=epsilon))
