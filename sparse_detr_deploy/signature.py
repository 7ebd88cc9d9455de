"""The inputs and outputs that an artefact has by its metadata, and whether a file, a feed or a result has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.metadata import Metadata

BATCH = "batch"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output. ``shape`` holds sizes, names of those that only a run settles, or is ``None``: unknown."""

    dtype: str
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        sizes = "of unknown rank" if self.shape is None else f"[{', '.join(map(str, self.shape))}]"
        return f"{self.dtype} {sizes}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """Inputs and outputs by name; the size :data:`BATCH` is the number of images."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def signature(metadata: Metadata) -> Signature:
    """What an artefact takes and gives."""
    inputs = {"images": Tensor(metadata.input_dtype, (BATCH, 3, metadata.height, metadata.width))}
    if metadata.padded:
        inputs["image_sizes"] = Tensor("int64", (BATCH, 2))
    if metadata.dynamic_rho:
        inputs["num_keep"] = Tensor("int64", (BATCH if metadata.padded else 1,))
    if metadata.outputs == "raw":
        queries = metadata.num_queries
        return Signature(
            inputs,
            {
                "pred_logits": Tensor("float32", (BATCH, queries, metadata.num_classes)),
                "pred_boxes": Tensor("float32", (BATCH, queries, 4)),
            },
        )
    count = metadata.num_detections
    return Signature(
        inputs,
        {
            "boxes": Tensor("float32", (BATCH, count, 4)),
            "scores": Tensor("float32", (BATCH, count)),
            "labels": Tensor("int32", (BATCH, count)),
        },
    )


def check_graph(path: Path, metadata: Metadata, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    """Raise :class:`ArtefactError` unless a file takes and gives what its metadata says; it may give more."""
    promised = signature(metadata)
    found = {name: outputs[name] for name in promised.outputs if name in outputs}
    wrong = [
        *_differences(inputs, promised.inputs, metadata.batch),
        *_differences(found, promised.outputs, metadata.batch),
    ]
    if wrong:
        raise ArtefactError(f"{path}: its graph and its metadata do not fit ({'; '.join(wrong)}): export it again")


def _differences(
    found: Mapping[str, Tensor], promised: Mapping[str, Tensor], batch: tuple[int, int, int]
) -> Iterator[str]:
    for name in found.keys() | promised.keys():
        graph, document = found.get(name), promised.get(name)
        if graph is None:
            yield f"{name} is not in the graph, but {document} in the metadata"
        elif document is None:
            yield f"{name} is {graph} in the graph, but not in the metadata"
        elif graph.dtype != document.dtype or not _may_fit(graph.shape, document.shape, batch):
            yield f"{name} is {graph} in the graph, but {document} in the metadata"


def _may_fit(
    found: tuple[int | str, ...] | None, promised: tuple[int | str, ...] | None, batch: tuple[int, int, int]
) -> bool:
    """Whether the sizes that are settled are the promised ones."""
    if found is None or promised is None:
        return True
    return len(found) == len(promised) and all(
        isinstance(size, str) or (size == batch[0] == batch[2] if wanted == BATCH else size == wanted)
        for size, wanted in zip(found, promised, strict=True)
    )


def check_feed(feed: Mapping[str, Any], metadata: Metadata) -> int:
    """The number of images of a feed. Raises :class:`InputError` where it is none of the artefact's."""
    inputs = signature(metadata).inputs
    if not isinstance(feed, Mapping) or set(feed) != set(inputs):
        given = ", ".join(map(str, feed)) if isinstance(feed, Mapping) else f"a {type(feed).__name__}"
        raise InputError(f"the inputs are {given or 'none'}, but {metadata.name} takes {', '.join(inputs)}")
    images = feed["images"]
    batch = images.shape[0] if isinstance(images, np.ndarray) and images.ndim else 0
    for name, tensor in inputs.items():
        complaint = _complaint(feed[name], tensor, batch, exact=True)
        if complaint is not None or batch == 0:
            raise InputError(f"{name} is {complaint or 'empty'}, but {metadata.name} takes {tensor}")
    return batch


def check_result(path: Path, outputs: Mapping[str, NDArray[Any]], metadata: Metadata, batch: int) -> None:
    """Raise :class:`ArtefactError` unless ``outputs`` of a run on ``batch`` images are what the metadata promises."""
    for name, tensor in signature(metadata).outputs.items():
        complaint = _complaint(outputs[name], tensor, batch, exact=True)
        if complaint is not None:
            raise ArtefactError(
                f"{path}: for {batch} images its output {name} is {complaint}, but {tensor} by its metadata: export it again"
            )


def check_outputs(outputs: Mapping[str, Any], metadata: Metadata, images: int) -> None:
    """Raise :class:`InputError` unless ``outputs`` are those of the artefact, for ``images`` images or more."""
    promised = signature(metadata).outputs
    if not isinstance(outputs, Mapping) or promised.keys() - outputs.keys():
        given = ", ".join(map(str, outputs)) if isinstance(outputs, Mapping) else f"a {type(outputs).__name__}"
        raise InputError(f"the outputs are {given or 'none'}, but {metadata.name} gives {', '.join(promised)}")
    first = outputs[next(iter(promised))]
    batch = first.shape[0] if isinstance(first, np.ndarray) and first.ndim else 0
    for name, tensor in promised.items():
        complaint = _complaint(outputs[name], tensor, batch, exact=False)
        if complaint is not None:
            raise InputError(f"{name} is {complaint}, but {metadata.name} gives {tensor}")
    if batch < images:
        raise InputError(f"the outputs are of {batch} images, but {images} image sizes are given")


def _complaint(array: object, tensor: Tensor, batch: int, exact: bool) -> str | None:
    """What ``array`` is instead of ``tensor``, if it is something else; other sizes of a type will do unless ``exact``."""
    if not isinstance(array, np.ndarray):
        return f"a {type(array).__name__} and no NumPy array"
    wanted = None if tensor.shape is None else tuple(batch if size == BATCH else size for size in tensor.shape)
    dtype = np.dtype(tensor.dtype)
    fits = array.dtype == dtype if exact else np.can_cast(array.dtype, dtype, "same_kind")
    return None if fits and array.shape == wanted else f"{array.dtype} {list(array.shape)}"
