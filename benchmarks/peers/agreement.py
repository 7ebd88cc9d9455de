"""Do two formulations detect the same? Compared given the same selection, since selection is a discontinuity.

Two correct implementations may select tokens and proposals that differ where scores are equal within rounding; with
random weights the detections behind them then differ a lot. So our module is run on the selection of the other side.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sparse_detr_deploy.benchmarks.peers.entries import Entry, open_session
from sparse_detr_deploy.benchmarks.peers.ours import build_ours
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.export.graph import add_probe_outputs
from sparse_detr_deploy.export.matching import worst_mismatch
from sparse_detr_deploy.export.tolerances import BOX_TOLERANCE, SCORE_TOLERANCE
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.postprocessing import best_pairs
from sparse_detr_deploy.tokens import num_keep, num_tokens

_COUNT = 100
_Arrays = dict[str, NDArray[Any]]


def agreement_of(
    entries: list[Entry], seed: int, rho: float | None, image: Path, threads: int, checkout: Path | None
) -> list[dict[str, Any]]:
    """Compare each of ``entries`` (all at ``rho``) with our module on the image; one result for each.

    A result holds ``score`` and ``box_pixels`` (worst difference of matched detections), ``agrees``, and
    ``swapped_tokens`` (selected by one side only). Eager PyTorch of ours is the reference, so it has no result (``{}``).
    """
    torch.set_num_threads(threads)
    model = build_ours(seed, rho)
    images = np.load(image)
    results: list[dict[str, Any]] = []
    for entry in entries:
        if entry.kind == "torch-ours":
            results.append({})
        elif entry.kind == "torch-original":
            assert checkout is not None
            results.append(_compare(model, images, _run_original(model, images, checkout)))
        else:
            results.append(_compare(model, images, _run_probed(entry, images, model, threads)))
    return results


@torch.inference_mode()
def _run_original(model: SparseDETR, images: NDArray[np.float32], checkout: Path) -> _Arrays:
    from sparse_detr_deploy.benchmarks.peers.original import build_original

    original = build_original(checkout, model)
    logits, boxes = original(torch.from_numpy(images))
    found = {"pred_logits": logits.numpy(), "pred_boxes": boxes.numpy()}
    assert original.topk_proposals is not None
    found["probe_proposals"] = original.topk_proposals.numpy()
    if original.selected_tokens is not None:
        found["probe_indices"] = original.selected_tokens.numpy()
    return found


def _run_probed(entry: Entry, images: NDArray[np.float32], model: SparseDETR, threads: int) -> _Arrays:
    """Outputs of an ONNX file together with its selections."""
    proto = onnx.load(entry.options["path"])
    ours = entry.kind == "runner"
    probed = add_probe_outputs(proto) if ours else _expose_topk(proto)
    kind = {"openvino-runner": "openvino"}.get(entry.kind, entry.kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probed.onnx"
        onnx.save(probed, path)
        found = open_session(kind, {**entry.options, "path": str(path)}, threads)(images)
    return found if ours else _named_selections(found, model, images)


def _expose_topk(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Every TopK's indices as further outputs ``topk_0``, ``topk_1``, …; changes and returns ``proto``."""
    topk = [node for node in proto.graph.node if node.op_type == "TopK"]
    for index, node in enumerate(topk):
        name = f"topk_{index}"
        proto.graph.node.append(helper.make_node("Identity", [node.output[1]], [name]))
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, None))
    return proto


def _named_selections(found: _Arrays, model: SparseDETR, images: NDArray[np.float32]) -> _Arrays:
    """Tell the selections among the TopK results by their length: tokens come before proposals."""
    selections = [found[name] for name in found if name.startswith("topk_")]
    if model.config.is_sparse:
        keep = _num_keep(model, images)
        index = next(index for index, values in enumerate(selections) if values.shape == (1, keep))
        found["probe_indices"] = selections[index]
        selections = selections[index + 1 :]
    found["probe_proposals"] = next(values for values in selections if values.shape == (1, model.config.num_queries))
    return found


def _num_keep(model: SparseDETR, images: NDArray[np.float32]) -> int:
    tokens = num_tokens(model.level_shapes(images.shape[2], images.shape[3]))
    return num_keep(tokens, model.config.rho, tokens)


@torch.inference_mode()
def _compare(model: SparseDETR, images: NDArray[np.float32], found: _Arrays) -> dict[str, Any]:
    selections = {
        name: torch.from_numpy(np.ascontiguousarray(found[probe])) if probe in found else None
        for name, probe in (("selected_tokens", "probe_indices"), ("selected_proposals", "probe_proposals"))
    }
    expected = model(torch.from_numpy(images), **selections)
    canvas = (images.shape[2], images.shape[3])
    logits, boxes = expected.pred_logits[0].numpy(), expected.pred_boxes[0].numpy()
    truth = _detections(*best_pairs(logits, boxes, logits.size), canvas)
    if "pred_logits" in found:
        result = _detections(*best_pairs(found["pred_logits"][0], found["pred_boxes"][0], _COUNT), canvas)
    else:
        result = _detections(found["boxes"][0], found["scores"][0], found["labels"][0], canvas)
    mismatch = worst_mismatch(truth, result, SCORE_TOLERANCE, BOX_TOLERANCE)
    swapped = 0
    if expected.token_scores is not None:
        own = model.transformer.select(expected.token_scores, model.grid(*canvas), model.config.rho)
        swapped = int(np.setdiff1d(own[0].numpy(), found["probe_indices"][0]).size)
    return {
        "score": mismatch.score,
        "box_pixels": mismatch.box,
        "swapped_tokens": swapped,
        "agrees": mismatch.within(SCORE_TOLERANCE, BOX_TOLERANCE),
    }


def _detections(boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], canvas: tuple[int, int]) -> Detections:
    limits = np.array([canvas[1], canvas[0]] * 2, dtype=np.float32)
    return Detections((boxes * limits).clip(0, limits), scores, labels.astype(np.int32), canvas)
