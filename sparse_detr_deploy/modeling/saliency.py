"""The scoring network: how salient each backbone token is, learnt from the decoder's cross-attention (Sparse DETR, §3.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ScoringNetwork(nn.Module):
    """[B, N, C] tokens to [B, N] scores: half of the features see the token, half the mean over all tokens."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        half = hidden_dim // 2
        self.layer1 = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, hidden_dim), nn.GELU())
        self.layer2 = nn.Sequential(
            nn.Linear(hidden_dim, half), nn.GELU(), nn.Linear(half, half // 2), nn.GELU(), nn.Linear(half // 2, 1)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the tokens.

        The two halves are computed apart, and the product of the first linear layer with the mean once instead of
        once a token: the same sums in another order, without the concatenation.
        """
        norm, first, _ = self.layer1
        second, _, third, _, last = self.layer2
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        half = second.out_features
        tokens = norm(tokens)
        local = F.gelu(F.linear(tokens, first.weight[:half], first.bias[:half]))
        overall = F.gelu(F.linear(tokens, first.weight[half:], first.bias[half:])).mean(1, keepdim=True)
        shared = F.linear(overall, second.weight[:, half:], second.bias)
        hidden = F.gelu(F.linear(local, second.weight[:, :half]) + shared)
        scores: Tensor = last(F.gelu(third(hidden)))
        return scores.squeeze(-1)
