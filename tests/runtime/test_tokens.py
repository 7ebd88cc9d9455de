"""Token arithmetic against PyTorch, which the original implementation computes with."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.modeling import ModelConfig, build_model
from sparse_detr_deploy.tokens import check_keep_ratio, nearest_index, num_keep, num_tokens, valid_level_shapes

SIZES = st.integers(1, 1400)


@given(SIZES, SIZES)
def test_nearest_index_is_that_of_interpolate(output_size: int, input_size: int) -> None:
    source = torch.arange(input_size, dtype=torch.float32)[None, None]  # as the masks are
    expected = F.interpolate(source, size=output_size, mode="nearest")[0, 0].long()
    assert nearest_index(output_size, input_size).tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(32, 700), st.integers(32, 700))
def test_valid_tokens_are_those_of_resized_masks(data: st.DataObject, height: int, width: int) -> None:
    image = data.draw(st.tuples(st.integers(1, height), st.integers(1, width)))
    levels = [((height + 7) // 8, (width + 7) // 8)]
    for _ in range(3):
        levels.append(((levels[-1][0] + 1) // 2, (levels[-1][1] + 1) // 2))
    mask = torch.ones(1, height, width)
    mask[:, : image[0], : image[1]] = 0
    expected = sum(int((F.interpolate(mask[None], size=level)[0, 0] == 0).sum()) for level in levels)
    assert num_tokens(valid_level_shapes(image, (height, width), tuple(levels))) == expected


# where the count changes with the precision of ρ, of the valid tokens' number, or of their product
@example(90, 0.7)
@example(10, 0.7)
@example(1250, 0.036)
@given(st.integers(1, 200_000), st.floats(1e-6, 1.0))
def test_num_keep_is_that_of_the_original(valid: int, rho: float) -> None:
    expected = int((torch.tensor([valid]) * rho).int()) + 1
    assert num_keep(valid, rho, 10**9) == expected
    assert num_keep(valid, rho, valid) == min(expected, valid)


@pytest.mark.parametrize(("valid", "rho", "count"), [(90, 0.7, 64), (10, 0.7, 8), (1250, 0.036, 45)])
def test_num_keep_takes_the_product_in_float32(valid: int, rho: float, count: int) -> None:
    assert num_keep(valid, rho, 10**9) == count


@example(10**400)
@example(-(10**5000))
@example("0.5")
@example(True)
@example(np.array([0.5]))
@example(np.array([0.1, 0.5]))
@example(np.array(0.5))
@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.lists(st.floats())))
def test_a_keep_ratio_is_a_share_or_refused(value: object) -> None:
    if type(value) in (int, float) and 0 < value <= 1:  # type: ignore[operator]
        assert check_keep_ratio(value) == float(value)  # type: ignore[arg-type]
    else:
        with pytest.raises(InputError, match="keep ratio"):
            check_keep_ratio(value)  # type: ignore[arg-type]


def test_keep_ratios_of_other_types() -> None:
    for value in (np.float32(0.5), np.float64(0.5), np.float16(0.5), Fraction(1, 2)):
        assert check_keep_ratio(value) == 0.5
    assert check_keep_ratio(np.int64(1)) == 1.0


@settings(max_examples=15, deadline=None)
@given(
    st.integers(33, 300),
    st.integers(33, 300),
    st.sampled_from([("resnet50", False), ("resnet50", True), ("swin-t", False)]),
    st.sampled_from([1, 3, 4, 5]),
)
def test_level_shapes_are_those_of_the_feature_maps(
    height: int, width: int, body: tuple[str, bool], levels: int
) -> None:
    backbone, dilation = body
    model = MODELS.get((backbone, dilation, levels))
    if model is None:
        config = ModelConfig(backbone, dilation, num_feature_levels=levels, enc_layers=1, dec_layers=1, hidden_dim=64)
        model = MODELS[backbone, dilation, levels] = build_model(config)
    with torch.no_grad():
        features = list(model.backbone[0]["body"](torch.zeros(1, 3, height, width)))
        while len(features) < levels:
            index = len(features)
            features.append(model.input_proj[index](features[-1]))
    assert model.level_shapes(height, width) == tuple(tuple(feature.shape[2:]) for feature in features)


MODELS: dict[tuple[str, bool, int], torch.nn.Module] = {}
