"""The two kinds of attention: against torch's own, where they start, and what padding does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparse_detr_deploy.modeling.attention import MSDeformAttn, SelfAttention


def _normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def test_self_attention_is_that_of_torch() -> None:
    own, reference = SelfAttention(16, 2), nn.MultiheadAttention(16, 2, batch_first=True)
    reference.load_state_dict(own.state_dict())
    with torch.no_grad():
        for seed, parameter in enumerate(reference.parameters()):
            parameter.copy_(_normal(*parameter.shape, seed=seed))
    own.load_state_dict(reference.state_dict())
    query, value = _normal(3, 5, 16, seed=8), _normal(3, 5, 16, seed=9)
    expected, _ = reference(query, query, value)
    torch.testing.assert_close(own(query, value), expected, rtol=1e-4, atol=1e-4)


def test_points_fan_out_at_the_start() -> None:
    attention = MSDeformAttn(32, levels=2, heads=8, points=3)
    east, north_east, north = (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)
    directions = [east, north_east, north, (-1.0, 1.0), (-1.0, 0.0), (-1.0, -1.0), (0.0, -1.0), (1.0, -1.0)]
    expected = torch.tensor(
        [[[[x * far, y * far] for far in (1, 2, 3)] for _ in range(2)] for x, y in directions]  # heads, levels, points
    )
    torch.testing.assert_close(attention.sampling_offsets.bias.view(8, 2, 3, 2), expected, rtol=0, atol=1e-5)
    for parameter in (attention.sampling_offsets.weight, *attention.attention_weights.parameters()):
        assert not parameter.any()


def test_padding_counts_as_zero_after_the_projection() -> None:
    attention = MSDeformAttn(32, levels=1, heads=4, points=2)
    memory, query = _normal(1, 6, 32), _normal(1, 4, 32, seed=1)
    references = torch.rand(1, 4, 1, 2, generator=torch.Generator().manual_seed(2))
    is_image = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])[None, :, None]
    nn.init.ones_(attention.value_proj.bias)  # so that a zero before it would show

    def attend(values: Tensor, mask: Tensor | None) -> Tensor:
        result: Tensor = attention(query, references, values, ((2, 3),), mask)
        return result

    masked = attend(memory, is_image)
    assert torch.equal(masked, attend(torch.where(is_image > 0, memory, 7.0), is_image))
    assert (masked - attend(memory * is_image, None)).abs().max() > 0.01
    assert (masked - attend(memory, None)).abs().max() > 0.01
