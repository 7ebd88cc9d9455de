"""The box head and the inverse sigmoid."""

from __future__ import annotations

import math

import torch

from sparse_detr_deploy.modeling.heads import MLP, inverse_sigmoid


def test_inverse_sigmoid_is_clamped_at_both_ends_and_outside() -> None:
    end = math.log(1e5)
    found = inverse_sigmoid(torch.tensor([-1.0, 0.0, 1e-6, 0.2, 0.5, 0.8, 1.0, 2.0]))
    expected = torch.tensor([-end, -end, -end, math.log(0.25), 0.0, math.log(4.0), end, end])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_inverse_sigmoid_is_clamped_at_a_hundred_thousandth() -> None:
    torch.testing.assert_close(inverse_sigmoid(torch.tensor([2e-5])), torch.tensor([math.log(2e-5)]))
    torch.testing.assert_close(inverse_sigmoid(torch.tensor([0.9e-5])), torch.tensor([math.log(1e-5)]))


def test_relu_stands_between_the_layers_only() -> None:
    mlp = MLP(2, 3, 1, 3)
    assert [(layer.in_features, layer.out_features) for layer in mlp.layers] == [(2, 3), (3, 3), (3, 1)]
    with torch.no_grad():
        for layer in mlp.layers:
            layer.weight.fill_(1.0)
            layer.bias.zero_()
        mlp.layers[2].weight.fill_(-1.0)
        # 2 + 1 = 3 three times, 9 three times, −27: nothing cuts off the last
        assert mlp(torch.tensor([[2.0, 1.0]])).tolist() == [[-27.0]]
        mlp.layers[1].bias.fill_(1.0)
        # −3 is cut off to 0, then 0 + 1
        assert mlp(torch.tensor([[-2.0, -1.0]])).tolist() == [[-3.0]]
