"""ONNX files whose graph is not what their metadata say, run by ONNX Runtime."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.postprocessing import finish
from tests.fuzz.harness import Case, Target

_SIZE, _COUNT, _CLASSES = (32, 40), 6, 5
_IMAGE = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
_DTYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)
_SPECIAL = (np.nan, np.inf, -np.inf, 3e38, -1.0, 0.0)


@dataclasses.dataclass
class _Form:
    """A graph: inputs by name (type and shape), outputs by name with their constant values."""

    inputs: dict[str, tuple[int, list[Any]]]
    outputs: dict[str, NDArray[Any]]


def _metadata(case: Case) -> Metadata:
    choose = case.mutator.chance
    dynamic = choose(0.4)
    return Metadata(
        name="crafted",
        architecture="r50",
        model={},
        height=_SIZE[0],
        width=_SIZE[1],
        level_shapes=((4, 5),),
        rho=0.3 if dynamic or choose(0.5) else None,
        dynamic_rho=dynamic,
        padded=choose(0.4),
        outputs="raw" if choose(0.3) else "detections",
        input_dtype="uint8" if choose(0.2) else "float32",
        num_detections=_COUNT,
        num_queries=_COUNT,
        num_classes=_CLASSES,
        class_names=("a", "b", "c", "d", "e") if choose(0.5) else None,
        inlined=True,
    )


def _form(metadata: Metadata) -> _Form:
    """What the metadata promise."""
    pixels = TensorProto.UINT8 if metadata.input_dtype == "uint8" else TensorProto.FLOAT
    inputs: dict[str, tuple[int, list[Any]]] = {"images": (pixels, [1, 3, *_SIZE])}
    if metadata.padded:
        inputs["image_sizes"] = (TensorProto.INT64, [1, 2])
    if metadata.dynamic_rho:
        inputs["num_keep"] = (TensorProto.INT64, [1])
    generator = np.random.default_rng(1)
    scores = np.sort(generator.random((1, _COUNT), dtype=np.float32))[:, ::-1].copy()
    boxes = np.tile(np.array([0.1, 0.2, 0.5, 0.7], dtype=np.float32), (1, _COUNT, 1))
    if metadata.outputs == "raw":
        logits = generator.standard_normal((1, _COUNT, _CLASSES), dtype=np.float32)
        return _Form(inputs, {"pred_logits": logits, "pred_boxes": boxes})
    labels = np.arange(_COUNT, dtype=np.int32)[None] % _CLASSES
    return _Form(inputs, {"boxes": boxes, "scores": scores, "labels": labels})


def _damage(case: Case, form: _Form) -> None:
    """One change."""
    mutator = case.mutator
    change = mutator.random.randrange(7)
    name = mutator.pick(list(form.outputs) or [""])
    if not name:
        return
    if change == 0:  # an input of another name, type or shape, one too many or too few
        key = mutator.pick(list(form.inputs))
        dtype, shape = form.inputs.pop(key)
        kind = mutator.random.randrange(4)
        if kind == 0:
            form.inputs[mutator.pick(("pictures", "image_sizes", "num_keep", "x" * 100))] = (dtype, shape)
        elif kind == 1:
            form.inputs[key] = (mutator.pick(_DTYPES), shape)
        elif kind == 2:
            form.inputs[key] = (dtype, mutator.pick(([1], [1, 3, 7, 7], ["batch", 3, "h", "w"], [], [2, 2], shape[1:])))
        elif len(form.inputs) == 0:
            form.inputs["other"] = (dtype, shape)
    elif change == 1:
        form.outputs[mutator.pick(("boxs", "scores", "labels", "pred_boxes"))] = form.outputs.pop(name)
    elif change == 2:
        with np.errstate(invalid="ignore"):
            form.outputs[name] = form.outputs[name].astype(mutator.pick((np.float64, np.int32, np.int64, np.uint8)))
    elif change == 3:
        shape = form.outputs[name].shape
        form.outputs[name] = np.resize(
            form.outputs[name], mutator.pick((shape[1:], shape[:-1], (0,), (1, 3, 4), (2, 2)))
        )
    elif change == 4:
        values = form.outputs[name]
        at = tuple(mutator.random.randrange(size) for size in values.shape) if values.size else None
        if at is not None and len(at) == values.ndim:
            special = (
                mutator.pick(_SPECIAL)
                if values.dtype.kind == "f"
                else mutator.pick((-1, 10**6, -(2**31), 5) if values.dtype.kind == "i" else (0, 255))
            )
            values[at] = special
    elif change == 5:
        form.outputs.pop(name)
    else:
        form.outputs["extra"] = np.zeros((1, 2), dtype=np.float32)


def _model(form: _Form, metadata: Metadata) -> bytes:
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.ascontiguousarray(values)))
        for name, values in form.outputs.items()
    ]
    outputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), list(values.shape))
        for name, values in form.outputs.items()
    ]
    inputs = [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in form.inputs.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    return bytes(model.SerializeToString())


def run_session(case: Case) -> None:
    """``Detector.load`` and a call."""
    metadata = _metadata(case)
    form = _form(metadata)
    for _ in range(1 if case.mutated else case.mutator.random.randrange(4)):
        _damage(case, form)
    path = case.folder / "crafted.onnx"
    path.write_bytes(_model(form, metadata))
    with Detector.load(path, num_threads=1) as detector:
        found = detector(_IMAGE, keep_ratio=0.5 if metadata.dynamic_rho else None)
    check_detections(found, metadata)


def check_detections(found: Detections, metadata: Metadata) -> None:
    """What every user of detections relies on."""
    assert np.isfinite(found.boxes).all(), "boxes that are not finite"
    assert np.isfinite(found.scores).all(), "scores that are not finite"
    assert found.boxes.shape == (len(found), 4)
    assert found.labels.shape == found.scores.shape == (len(found),)
    assert found.boxes.dtype == np.float32
    assert found.labels.dtype == np.int32
    known = metadata.class_names or ()
    for label, name in zip(found.labels.tolist(), found.names, strict=True):
        assert name == (known[label] if 0 <= label < len(known) else str(label)), f"label {label} is called {name}"
    found.to_coco(1)
    repr(found)


def run_outputs(case: Case) -> None:
    """Post-processing of what a backend gave."""
    metadata = _metadata(case)
    form = _form(metadata)
    for _ in range(1 if case.mutated else case.mutator.random.randrange(4)):
        _damage(case, form)
    for found in finish(form.outputs, [(50, 60)], metadata):
        check_detections(found, metadata)


TARGETS = (Target("session", run_session, 8), Target("outputs", run_outputs, 10))
