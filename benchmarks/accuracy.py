"""Average precision on images with COCO annotations."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.contenders import Contender
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.images import Image, readable_images

_METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_ANNOTATION_FIELDS = ("id", "image_id", "category_id", "bbox")


@dataclasses.dataclass(frozen=True)
class Annotations:
    """A COCO file: ``dataset`` as read, and where the annotated images are that exist (path by image id)."""

    dataset: dict[str, Any]
    paths: dict[int, Path]
    absent: int

    @classmethod
    def read(cls, file: Path, folder: Path) -> Annotations:
        """Read ``file`` and look for its images in ``folder``.

        Raises:
            InputError: the file cannot be read, is no COCO detection file, or none of its images is in the folder.
        """
        dataset = _read_coco(file)
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of images")
        named = {image["id"]: folder / str(image["file_name"]) for image in dataset["images"]}
        paths = {key: path for key, path in named.items() if path.is_file()}
        if not paths:
            raise InputError(f"none of the {len(named)} images that {file} names is in {folder}")
        return cls(dataset, paths, len(named) - len(paths))


def _read_coco(file: Path) -> dict[str, Any]:
    try:
        dataset = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the annotations {file} cannot be read ({error})") from None

    def refuse(why: str) -> InputError:
        return InputError(f"{file} is not a COCO detection file ({why}): see https://cocodataset.org/#format-data")

    if not isinstance(dataset, dict):
        raise refuse("it is no JSON object")
    for key, fields in (
        ("images", ("id", "file_name")),
        ("annotations", _ANNOTATION_FIELDS),
        ("categories", ("id",)),
    ):
        entries = dataset.get(key)
        if not isinstance(entries, list):
            raise refuse(f"no list {key!r}")
        for entry in entries:
            absent = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if absent:
                raise refuse(f"an entry of {key!r} has no {absent[0]!r}")
    if not all(isinstance(image["id"], int) for image in dataset["images"]):
        raise refuse("an image id is not a whole number")
    for index, entry in enumerate(dataset["annotations"], start=1):
        entry["id"] = index  # pycocotools takes a match with annotation 0 for none
        box = entry["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, (int, float)) for value in box):
            raise refuse(f"annotation {index} has no bbox [x, y, width, height]")
        entry.setdefault("iscrowd", 0)
        entry.setdefault("area", box[2] * box[3])
    return dataset


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """COCO average precision over ``images`` images, each value in 0..1; ``None`` where no object is of that size."""

    values: dict[str, float | None]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values: AP, AP50, AP75, AP_small, AP_medium, AP_large, images."""
        return {**self.values, "images": self.images}


def evaluate(dataset: Mapping[str, Any], detections: Mapping[int, Detections]) -> Accuracy:
    """Average precision of ``detections`` (by image id) on those images of ``dataset``; labels are category ids.

    Raises:
        BackendError: pycocotools is not installed.
    """
    coco, coco_eval = import_pycocotools()
    results = [entry for image_id, found in detections.items() for entry in found.to_coco(image_id)]
    for index, entry in enumerate(results, start=1):
        entry.update(id=index, iscrowd=0, area=entry["bbox"][2] * entry["bbox"][3])
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = coco(), coco()
        truth.dataset = dict(dataset)
        found.dataset = {**dataset, "annotations": results}
        truth.createIndex()
        found.createIndex()
        evaluation = coco_eval(truth, found, "bbox")
        evaluation.params.imgIds = sorted(detections)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # pycocotools gives −1 where there is nothing to find
    values = [None if value < 0 else float(value) for value in evaluation.stats[: len(_METRICS)]]
    return Accuracy(dict(zip(_METRICS, values, strict=True)), len(detections))


def import_pycocotools() -> tuple[Any, Any]:
    """The classes ``COCO`` and ``COCOeval``."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise BackendError("pycocotools is not installed: pip install 'sparse-detr-deploy[bench]'") from None
    return COCO, COCOeval


def measure_accuracy(
    contenders: Sequence[Contender],
    detectors: Mapping[Path, Detector],
    annotations: Annotations,
    on_error: Callable[[str], None],
    progress: Callable[[str], None] = lambda message: None,
) -> list[Accuracy]:
    """Accuracy of each contender. Every image is read once; unreadable ones are told to ``on_error`` and left out.

    Raises:
        InputError: no image can be read.
    """
    found: list[dict[int, Detections]] = [{} for _ in contenders]
    largest = max(contender.batch for contender in contenders)
    for ids, images in _chunks(annotations.paths, largest, on_error):
        for contender, results in zip(contenders, found, strict=True):
            progress(f"accuracy of {contender.title}, image {len(results) + 1} of {len(annotations.paths)}")
            detected = detectors[contender.path](images, keep_ratio=contender.keep_ratio)
            results.update(zip(ids, detected, strict=True))
    if not found[0]:
        raise InputError("none of the annotated images can be read")
    return [evaluate(annotations.dataset, results) for results in found]


def _chunks(
    paths: Mapping[int, Path], size: int, on_error: Callable[[str], None]
) -> Iterator[tuple[list[int], list[Image]]]:
    ids: list[int] = []
    images: list[Image] = []
    for image_id, path in paths.items():
        for _, image in readable_images([path], on_error):
            ids.append(image_id)
            images.append(image)
        if len(ids) == size:
            yield ids, images
            ids, images = [], []
    if ids:
        yield ids, images
