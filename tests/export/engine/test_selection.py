"""TopK in rounds gives what one large stable sort gives, at every k, with ties and with the lowest scores there are."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sparse_detr_deploy.export.engine.selection import count_rounds, selection_body
from sparse_detr_deploy.export.engine.spec import MAX_TOPK
from sparse_detr_deploy.export.functions import DOMAIN, OP_VERSION, OPSET
from sparse_detr_deploy.modeling.ops import select_tokens

TOKENS = 9000  # three rounds


def session(max_keep: int | None, per_image: bool = False, tokens: int = TOKENS) -> onnxruntime.InferenceSession:
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, tokens])
    num_keep = helper.make_tensor_value_info("num_keep", TensorProto.INT64, [None])
    indices = helper.make_tensor_value_info("indices", TensorProto.INT64, [None, None])
    call = helper.make_node("SelectTokens", ["scores", "num_keep"], ["indices"], domain=DOMAIN)
    model = helper.make_model(
        helper.make_graph([call], "selection", [scores, num_keep], [indices]),
        functions=[selection_body(tokens, max_keep, per_image)],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OP_VERSION)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def expected(scores: NDArray[np.float32], num_keep: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = select_tokens(torch.from_numpy(scores), torch.from_numpy(num_keep)).numpy()
    return found


def scores_of(kind: str, tokens: int = TOKENS) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    scores = random.standard_normal((2, tokens)).astype(np.float32)
    if kind == "ties":
        scores = np.round(scores)
    if kind == "equal":
        scores[:] = 0.25
    if kind == "minus infinity":
        scores[:, random.permutation(tokens)[: tokens - 100]] = -np.inf
    if kind == "lowest":
        scores[:, 100:] = np.finfo(np.float32).min
    if kind == "heavy tails":
        scores = np.sign(scores) * np.exp(15 * np.abs(scores)).astype(np.float32)
    return scores


KINDS = ("normal", "ties", "equal", "minus infinity", "lowest", "heavy tails")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [1, MAX_TOPK, MAX_TOPK + 1, 2 * MAX_TOPK, TOKENS - 1, TOKENS])
def test_fixed_k(kind: str, keep: int) -> None:
    scores, num_keep = scores_of(kind), np.array([keep])
    (found,) = session(keep).run(None, {"scores": scores, "num_keep": num_keep})
    assert found.dtype == np.int64
    np.testing.assert_array_equal(np.sort(found), expected(scores, num_keep))


@pytest.mark.parametrize("kind", KINDS)
def test_k_of_the_run(kind: str) -> None:
    """One graph for every k: the rounds that are not needed take nothing."""
    scores, run = scores_of(kind), session(None)
    for keep in (1, 7, MAX_TOPK - 1, MAX_TOPK, MAX_TOPK + 1, 2 * MAX_TOPK, 2 * MAX_TOPK + 1, TOKENS):
        num_keep = np.array([keep])
        (found,) = run.run(None, {"scores": scores, "num_keep": num_keep})
        np.testing.assert_array_equal(np.sort(found), expected(scores, num_keep))


def test_best_first() -> None:
    """The rounds follow each other in the order of the scores: padded images rely on it."""
    scores = scores_of("normal")
    (found,) = session(8000).run(None, {"scores": scores, "num_keep": np.array([8000])})
    taken = np.take_along_axis(scores, found, axis=1)
    assert (np.diff(taken) <= 0).all()


@pytest.mark.parametrize("counts", [[1, 5000], [5000, 5000], [3, MAX_TOPK + 1], [4999, 2]])
def test_each_image_repeats_its_own(counts: list[int]) -> None:
    scores, num_keep = scores_of("ties"), np.array(counts)
    (found,) = session(5000, per_image=True).run(None, {"scores": scores, "num_keep": num_keep})
    assert found.shape == (2, 5000)
    for image, count in enumerate(counts):
        own = expected(scores[image : image + 1], np.array([count]))[0]
        np.testing.assert_array_equal(np.unique(found[image]), own)


def test_no_round_is_larger_than_tensorrt_takes() -> None:
    for keep in (1, MAX_TOPK, 5347, 17821):
        body = selection_body(17821, keep, False)
        counts = [
            int(onnx.numpy_helper.to_array(node.attribute[0].t)[0])
            for node in body.node
            if node.op_type == "Constant" and node.output[0].startswith("count_")
        ]
        assert sum(counts) == keep
        assert max(counts) <= MAX_TOPK
        assert len(counts) == count_rounds(keep) == sum(node.op_type == "TopK" for node in body.node)
