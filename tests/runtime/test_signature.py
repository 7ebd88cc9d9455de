"""Files whose graph is not what their metadata says: each is refused, when it is loaded or when it shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_detr_deploy import ArtefactError, BackendError, Detector, InputError
from sparse_detr_deploy.export.graph import set_metadata
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.signature import BATCH, Tensor, check_feed, check_graph, check_result, signature

METADATA = Metadata(
    name="crafted",
    architecture="r50",
    model={},
    height=96,
    width=128,
    level_shapes=((12, 16), (6, 8)),
    rho=0.3,
    num_detections=7,
    num_queries=9,
    num_classes=5,
    inlined=True,
)
RAW = dataclasses.replace(METADATA, outputs="raw")
SEVERAL = dataclasses.replace(METADATA, batch=(1, 2, 4))
IMAGE = np.zeros((30, 40, 3), dtype=np.uint8)
BACKENDS = pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
_ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
Ports = dict[str, tuple[str, tuple[int | str, ...]]]


def ports(tensors: dict[str, Tensor]) -> Ports:
    return {name: (tensor.dtype, tensor.shape or ()) for name, tensor in tensors.items()}


def crafted(path: Path, metadata: Metadata, inputs: Ports | None = None, outputs: Ports | None = None) -> Path:
    """A file that says ``metadata`` of itself, takes ``inputs`` and gives ones as ``outputs``.

    The batch is fixed, unless the metadata has several. Sizes are numbers or ``batch``, ``batch+1``, …
    """
    several = metadata.batch[0] < metadata.batch[2]
    promised = signature(metadata)
    inputs = {**ports(promised.inputs), **(inputs or {})}
    outputs = {**ports(promised.outputs), **(outputs or {})}

    def described(name: str, dtype: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(
            name, _ELEMENTS[dtype], [1 if size == BATCH and not several else size for size in shape]
        )

    def constant(name: str, value: object, dtype: str) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, dtype=dtype)))

    nodes = [
        constant("first", [0], "int64"),
        helper.make_node("Shape", [next(name for name, port in inputs.items() if port[0])], ["all"]),
    ]
    nodes.append(helper.make_node("Gather", ["all", "first"], ["images_given"]))
    for name, (dtype, shape) in outputs.items():
        for axis, size in enumerate(shape):
            if several and isinstance(size, str):  # a size that no inference sees
                nodes.append(constant(f"more_{name}_{axis}", [int(size.removeprefix(BATCH) or 0)], "int64"))
                nodes.append(helper.make_node("Add", ["images_given", f"more_{name}_{axis}"], [f"size_{name}_{axis}"]))
            else:
                nodes.append(constant(f"size_{name}_{axis}", [1 if isinstance(size, str) else size], "int64"))
        if dtype:
            nodes.append(constant(f"one_{name}", 1, dtype))
            sizes = [f"size_{name}_{axis}" for axis in range(len(shape))]
            nodes.append(helper.make_node("Concat", sizes, [f"sizes_{name}"], axis=0))
            nodes.append(helper.make_node("Expand", [f"one_{name}", f"sizes_{name}"], [name]))
    graph = helper.make_graph(
        nodes,
        "crafted",
        [described(name, *port) for name, port in inputs.items() if port[0]],
        [described(name, *port) for name, port in outputs.items() if port[0]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    set_metadata(model, metadata)
    onnx.save(model, path)
    return path


NONE: tuple[str, tuple[int | str, ...]] = ("", ())


def test_the_signature() -> None:
    """As the documents of the project have it."""
    images = Tensor("float32", ("batch", 3, 96, 128))
    found = signature(METADATA)
    assert found.inputs == {"images": images}
    assert list(found.outputs.items()) == [
        ("boxes", Tensor("float32", ("batch", 7, 4))),
        ("scores", Tensor("float32", ("batch", 7))),
        ("labels", Tensor("int32", ("batch", 7))),
    ]
    assert signature(RAW).outputs == {
        "pred_logits": Tensor("float32", ("batch", 9, 5)),
        "pred_boxes": Tensor("float32", ("batch", 9, 4)),
    }
    sizes, count = Tensor("int64", ("batch", 2)), Tensor("int64", (1,))
    assert signature(dataclasses.replace(METADATA, padded=True)).inputs == {"images": images, "image_sizes": sizes}
    assert signature(dataclasses.replace(METADATA, dynamic_rho=True)).inputs == {"images": images, "num_keep": count}
    both = signature(dataclasses.replace(METADATA, dynamic_rho=True, padded=True, input_dtype="uint8")).inputs
    assert both == {
        "images": Tensor("uint8", ("batch", 3, 96, 128)),
        "image_sizes": sizes,
        "num_keep": Tensor("int64", ("batch",)),
    }


@pytest.mark.parametrize(
    ("batch", "shape", "fits"),
    [
        ((1, 1, 1), (1, 3, 96, 128), True),
        ((2, 2, 2), (2, 3, 96, 128), True),
        ((2, 2, 2), (1, 3, 96, 128), False),
        ((1, 2, 4), ("n", 3, 96, 128), True),
        ((1, 2, 4), (1, 3, 96, 128), False),
        ((1, 2, 4), (2, 3, 96, 128), False),
        ((1, 2, 4), (4, 3, 96, 128), False),
        ((1, 1, 4), (1, 3, 96, 128), False),
        ((1, 4, 4), (4, 3, 96, 128), False),
        ((1, 1, 1), ("n", "channels", "h", "w"), True),
        ((1, 1, 1), (1, 3, 128, 96), False),
        ((1, 1, 1), (1, 3, 96), False),
        ((1, 1, 1), (1, 3, 96, 128, 1), False),
        ((1, 1, 1), None, True),
    ],
)
def test_which_shapes_fit(batch: tuple[int, int, int], shape: tuple[int | str, ...] | None, fits: bool) -> None:
    """A graph of one batch size takes no others; sizes with names are settled by a run."""
    metadata = dataclasses.replace(METADATA, batch=batch)
    outputs = signature(metadata).outputs
    if fits:
        check_graph(Path("x.onnx"), metadata, {"images": Tensor("float32", shape)}, outputs)
        return
    with pytest.raises(
        ArtefactError, match=r"\(images is float32 \[.*\] in the graph, but float32 \[batch, 3, 96, 128\]"
    ):
        check_graph(Path("x.onnx"), metadata, {"images": Tensor("float32", shape)}, outputs)


def test_feeds_of_several_inputs() -> None:
    metadata = dataclasses.replace(SEVERAL, padded=True, dynamic_rho=True)
    feed = {"images": np.zeros((2, 3, 96, 128), dtype=np.float32)}
    feed |= {"image_sizes": np.ones((2, 2), dtype=np.int64), "num_keep": np.ones(2, dtype=np.int64)}
    assert check_feed(feed, metadata) == 2
    for name, value, said in (
        ("image_sizes", np.ones((1, 2), dtype=np.int64), r"int64 \[1, 2\]"),
        ("image_sizes", np.ones((2, 2), dtype=np.int32), r"int32 \[2, 2\]"),
        ("num_keep", np.ones(1, dtype=np.int64), r"int64 \[1\]"),
        ("num_keep", [1, 1], "a list and no NumPy array"),
    ):
        with pytest.raises(InputError, match=rf"^{name} is {said}, but crafted takes int64 \[batch"):
            check_feed({**feed, name: value}, metadata)
    with pytest.raises(
        InputError, match="the inputs are images, image_sizes, but crafted takes images, image_sizes, num"
    ):
        check_feed({name: feed[name] for name in ("images", "image_sizes")}, metadata)
    with pytest.raises(InputError, match="the inputs are images, other, but crafted takes images"):
        check_feed({"images": feed["images"], "other": feed["images"]}, SEVERAL)


def test_results_of_several_images() -> None:
    outputs = {
        name: np.ones((2, *tensor.shape[1:]), tensor.dtype) for name, tensor in signature(METADATA).outputs.items()
    }  # type: ignore[index,misc]
    check_result(Path("x.onnx"), outputs, METADATA, 2)
    for changed, batch in (
        ({}, 1),
        ({"scores": np.ones((1, 7), np.float32)}, 2),
        ({"scores": np.ones((2, 7))}, 2),
        ({"labels": np.ones((2, 7), np.int64)}, 2),
        ({"boxes": np.ones((2, 4, 7), np.float32)}, 2),
    ):
        with pytest.raises(ArtefactError, match=rf"^x\.onnx: for {batch} images its output .* by its metadata"):
            check_result(Path("x.onnx"), {**outputs, **changed}, METADATA, batch)


@BACKENDS
@pytest.mark.parametrize("metadata", [METADATA, RAW, SEVERAL, dataclasses.replace(METADATA, input_dtype="uint8")])
def test_a_file_that_is_what_it_says(backend: str, metadata: Metadata, tmp_path: Path) -> None:
    with Detector.load(crafted(tmp_path / "x.onnx", metadata), backend) as detector:
        assert len(detector(IMAGE)) == 7


@BACKENDS
def test_more_outputs_do_no_harm(backend: str, tmp_path: Path) -> None:
    path = crafted(tmp_path / "x.onnx", METADATA, outputs={"probe": ("int64", (3,))})
    with Detector.load(path, backend) as detector:
        assert len(detector(IMAGE)) == 7


CRAFTED: dict[str, tuple[Metadata, Ports, Ports, str]] = {
    "images of another size": (METADATA, {"images": ("float32", (BATCH, 3, 64, 64))}, {}, r"\[1, 3, 64, 64\]"),
    "images of another batch": (SEVERAL, {"images": ("float32", (3, 3, 96, 128))}, {}, r"\[3, 3, 96, 128\]"),
    "grey images": (METADATA, {"images": ("float32", (BATCH, 1, 96, 128))}, {}, r"\[1, 1, 96, 128\]"),
    "images of another rank": (METADATA, {"images": ("float32", (3, 96, 128))}, {}, r"float32 \[3, 96, 128\]"),
    "images of bytes": (METADATA, {"images": ("uint8", (BATCH, 3, 96, 128))}, {}, "images is uint8"),
    "half images": (METADATA, {"images": ("float16", (BATCH, 3, 96, 128))}, {}, "images is float16"),
    "images by another name": (METADATA, {"x": ("float32", (1, 3, 96, 128)), "images": NONE}, {}, "x is float32"),
    "an input too many": (METADATA, {"y": ("float32", (1,))}, {}, r"y is float32 \[1\] in the graph, but not in"),
    "no image_sizes": (
        dataclasses.replace(METADATA, padded=True),
        {"image_sizes": NONE},
        {},
        r"image_sizes is not in the graph, but int64 \[batch, 2\] in the metadata",
    ),
    "num_keep of another type": (
        dataclasses.replace(METADATA, dynamic_rho=True),
        {"num_keep": ("int32", (1,))},
        {},
        "num_keep is int32",
    ),
    "no boxes": (METADATA, {}, {"boxes": NONE}, "boxes is not in the graph"),
    "outputs by other names": (RAW, {}, {"pred_logits": NONE, "logits": ("float32", (1, 9, 5))}, "pred_logits is not"),
    "boxes of five numbers": (METADATA, {}, {"boxes": ("float32", (BATCH, 7, 5))}, r"boxes is float32 \[1, 7, 5\]"),
    "boxes of another type": (METADATA, {}, {"boxes": ("float64", (BATCH, 7, 4))}, "boxes is float64"),
    "scores of another rank": (METADATA, {}, {"scores": ("float32", (BATCH, 7, 1))}, r"scores is float32 \[1, 7, 1\]"),
    "fewer scores": (METADATA, {}, {"scores": ("float32", (BATCH, 6))}, r"scores is float32 \[1, 6\]"),
    "labels of another type": (METADATA, {}, {"labels": ("int64", (BATCH, 7))}, "labels is int64"),
    "labels of numbers": (METADATA, {}, {"labels": ("float32", (BATCH, 7))}, "labels is float32"),
    "labels of more images": (METADATA, {}, {"labels": ("int32", (2, 7))}, r"labels is int32 \[2, 7\]"),
    "fewer queries": (RAW, {}, {"pred_boxes": ("float32", (BATCH, 8, 4))}, r"pred_boxes is float32 \[1, 8, 4\]"),
    "more classes": (RAW, {}, {"pred_logits": ("float32", (BATCH, 9, 6))}, r"pred_logits is float32 \[1, 9, 6\]"),
}


@BACKENDS
@pytest.mark.parametrize("name", CRAFTED)
def test_a_graph_that_does_not_fit_is_refused_when_it_is_loaded(backend: str, name: str, tmp_path: Path) -> None:
    metadata, inputs, outputs, message = CRAFTED[name]
    path = crafted(tmp_path / "x.onnx", metadata, inputs, outputs)
    with pytest.raises(ArtefactError, match=rf"x\.onnx: its graph and its metadata do not fit \(.*{message}"):
        Detector.load(path, backend)


OPEN: dict[str, Ports] = {
    "more detections": {"boxes": ("float32", (BATCH, "batch+7", 4))},
    "no detections": {"scores": ("float32", (BATCH, "batch-2"))},
    "more images": {"labels": ("int32", ("batch+1", 7))},
    "fewer images": {"boxes": ("float32", ("batch-1", 7, 4))},
}


@BACKENDS
@pytest.mark.parametrize("name", OPEN)
def test_a_graph_that_leaves_its_sizes_open_is_refused_when_it_runs(backend: str, name: str, tmp_path: Path) -> None:
    path = crafted(tmp_path / "x.onnx", SEVERAL, outputs=OPEN[name])
    detector = Detector.load(path, backend)
    with pytest.raises(ArtefactError, match=r"x\.onnx: for 2 images its output .* is .* by its metadata"):
        detector([IMAGE] * 2)


def test_an_output_of_unknown_rank(tmp_path: Path) -> None:
    path = crafted(tmp_path / "x.onnx", METADATA)
    model = onnx.load(path)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    with Detector.load(path) as detector:
        assert len(detector(IMAGE)) == 7


class StubRunner:
    """Gives what it is told to give."""

    def __init__(self, metadata: Metadata, **changes: Any) -> None:
        self.metadata, self.changes, self.seen = metadata, changes, 0

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = len(feed["images"])
        outputs = {
            name: np.ones([batch if size == BATCH else int(size) for size in tensor.shape or ()], dtype=tensor.dtype)
            for name, tensor in signature(self.metadata).outputs.items()
        }
        for name, (image, value) in self.changes.items():
            if self.seen <= image < self.seen + batch:
                outputs[name][image - self.seen].flat[-1] = value
        self.seen += batch
        return outputs

    def describe(self) -> dict[str, Any]:
        return {"backend": "stub"}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("metadata", "output"),
    [(SEVERAL, "scores"), (SEVERAL, "boxes")]
    + [(dataclasses.replace(RAW, batch=(1, 2, 4)), name) for name in ("pred_logits", "pred_boxes")],
)
def test_numbers_that_are_not_finite_name_the_image(
    metadata: Metadata, output: str, value: float, tmp_path: Path
) -> None:
    path = tmp_path / "street.png"
    path.write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    images = [IMAGE] * 5 + [path, IMAGE]
    for index, name in ((3, "image 3"), (4, "image 4"), (5, r"image 5 \(.*street\.png\)")):
        with pytest.raises(BackendError, match=f"^{name}: crafted gave {output} that are not finite numbers"):
            Detector(StubRunner(metadata, **{output: (index, value)}))(images)
    with pytest.raises(BackendError, match=f"^the image: crafted gave {output}"):
        Detector(StubRunner(metadata, **{output: (0, value)}))(IMAGE)


def test_what_fills_a_batch_up_is_not_looked_at() -> None:
    metadata = dataclasses.replace(METADATA, batch=(4, 4, 4))
    assert len(Detector(StubRunner(metadata, scores=(3, float("nan"))))([IMAGE] * 3)) == 3


def outputs_of(metadata: Metadata) -> dict[str, Any]:
    return StubRunner(metadata).run({"images": np.zeros((2, 1))})


@pytest.mark.parametrize(
    ("changes", "sizes", "message"),
    [
        ({"boxes": None}, [(30, 40)], "boxes is a NoneType and no NumPy array, but crafted gives float32"),
        ({"boxes": np.ones((2, 7, 5))}, [(30, 40)], r"boxes is float64 \[2, 7, 5\]"),
        ({"scores": np.ones((1, 7))}, [(30, 40)], r"scores is float64 \[1, 7\]"),
        ({"labels": np.ones((2, 7))}, [(30, 40)], "labels is float64"),
        ({"scores": np.full((2, 7), None)}, [(30, 40)], "scores is object"),
        ({"boxes": np.array(1.0)}, [(30, 40)], r"boxes is float64 \[\]"),
        ({}, [(30, 40)] * 3, "the outputs are of 2 images, but 3 image sizes are given"),
        ({}, [(30,)], "image_sizes is .*height, width"),
        ({}, [30, 40], "image_sizes is .*height, width"),
        ({}, (30, 40), "image_sizes is .*height, width"),
        ({}, None, "image_sizes is None"),
        ({}, 7, "image_sizes is 7"),
        ({}, [(30, 0)], "the width of image 0 is 0"),
        ({}, [(30, 40), (-1, 40)], "the height of image 1 is -1"),
        ({}, [(30, 40.5)], "the width of image 0 is 40.5"),
        ({}, [("30", "40")], "the height of image 0 is '30'"),
        ({}, ["30"], "the height of image 0 is '3'"),
    ],
)
def test_outputs_and_sizes_that_a_caller_gives(changes: dict[str, Any], sizes: Any, message: str) -> None:
    detector = Detector(StubRunner(METADATA))
    with pytest.raises(InputError, match=message):
        detector.postprocess({**outputs_of(METADATA), **changes}, sizes)


def test_outputs_that_are_missing() -> None:
    detector = Detector(StubRunner(METADATA))
    outputs = outputs_of(METADATA)
    del outputs["labels"]
    for odd, message in ((outputs, "boxes, scores"), ({}, "none"), (None, "a NoneType"), ([1], "a list")):
        with pytest.raises(InputError, match=f"the outputs are {message}, but crafted gives boxes, scores, labels"):
            detector.postprocess(odd, [(30, 40)])  # type: ignore[arg-type]


def test_outputs_and_sizes_of_other_types() -> None:
    detector = Detector(StubRunner(METADATA))
    outputs = {
        name: array.astype("f8" if array.dtype.kind == "f" else "i8") for name, array in outputs_of(METADATA).items()
    }
    for sizes in ([(30, 40)], [IMAGE.shape], np.array([[30, 40]]), [np.array([30, 40])], [[np.int32(30), 40]]):
        found = detector.postprocess(outputs, sizes)[0]  # type: ignore[arg-type]
        assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int32)
        assert found.image_size == (30, 40)
        assert [type(side) for side in found.image_size] == [int, int]
