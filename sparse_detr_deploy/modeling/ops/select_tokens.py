"""Twin of the ONNX op ``sparse_detr::SelectTokens``: the ρ-salient tokens (Sparse DETR, §3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

DATA_DEPENDENT = -1


def select_tokens(scores: Tensor, num_keep: Tensor, max_keep: int = DATA_DEPENDENT) -> Tensor:
    """Indices of the highest scores of each image, ascending.

    Exact; of equal scores the lower index goes first. An image that keeps fewer than the others repeats its own
    indices: its tokens are then refined twice with one result, and no mask is needed.

    Args:
        scores: [B, N] floating point.
        num_keep: [B] or [1] int64, how many tokens each image (or every image) keeps, 1..N.
        max_keep: ``max(num_keep)`` where it is known beforehand, so that an exported graph has a fixed shape.

    Returns:
        [B, K] int64, K = max(num_keep).
    """
    if torch.compiler.is_exporting():
        result: Tensor = torch.ops.sparse_detr.select_tokens(scores, num_keep, max_keep)
        return result
    return _twin(scores, num_keep)


def _twin(scores: Tensor, num_keep: Tensor) -> Tensor:
    most = int(num_keep.max())
    # a stable sort, because torch.topk leaves the order of equal scores open
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :most]
    position = torch.arange(most, device=scores.device) % num_keep[:, None]
    return order.gather(1, position.expand(scores.shape[0], -1)).sort(dim=1).values


@torch.library.custom_op("sparse_detr::select_tokens", mutates_args=())
def _exported(scores: Tensor, num_keep: Tensor, max_keep: int) -> Tensor:
    return _twin(scores, num_keep)


@_exported.register_fake
def _(scores: Tensor, num_keep: Tensor, max_keep: int) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size() if max_keep == DATA_DEPENDENT else max_keep
    return scores.new_empty((scores.shape[0], size), dtype=torch.int64)
