"""Average precision on images with COCO annotations."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.coco_file import read_coco
from sparse_detr_deploy.benchmarks.contenders import Contender
from sparse_detr_deploy.benchmarks.json_check import is_number
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.file_names import inner_path_fault
from sparse_detr_deploy.images import Image, readable_images
from sparse_detr_deploy.short_repr import short_repr

_METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


@dataclasses.dataclass(frozen=True)
class Annotations:
    """A COCO file: ``dataset`` as read, and where the annotated images are that exist (path by image id)."""

    dataset: dict[str, Any]
    paths: dict[int, Path]
    absent: int
    sha256: str

    @classmethod
    def read(cls, file: Path, folder: Path) -> Annotations:
        """Read ``file`` and look for its images in ``folder``.

        Raises:
            InputError: the file cannot be read, is no COCO detection file, names a file outside the folder, or none of
                its images is there.
        """
        dataset, sha256 = read_coco(file)
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of images")
        named = {
            image["id"]: _place(image["file_name"], folder, index, file)
            for index, image in enumerate(dataset["images"], start=1)
        }
        paths = {key: path for index, (key, path) in enumerate(named.items(), 1) if _is_file(path, index, file)}
        if not paths:
            raise InputError(f"none of the {len(named)} images that {file} names is in {folder}")
        return cls(dataset, paths, len(named) - len(paths), sha256)

    @property
    def strays(self) -> int:
        """How many objects are of images or categories that the file does not list; nothing can find them."""
        images = {image["id"] for image in self.dataset["images"]}
        categories = {category["id"] for category in self.dataset["categories"]}
        return sum(
            entry["image_id"] not in images or entry["category_id"] not in categories
            for entry in self.dataset["annotations"]
        )


def _place(name: str, folder: Path, index: int, source: Path) -> Path:
    fault = inner_path_fault(name)
    if fault is not None:
        raise InputError(
            f"entry {index} of 'images' in {source} names no file in the folder of images ({short_repr(name)}: {fault}): "
            "file names must be relative to it"
        )
    return folder / name


def _is_file(path: Path, index: int, source: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the name
        return False
    except OSError as error:
        raise InputError(
            f"the image that entry {index} of 'images' in {source} names by its file_name cannot be looked for "
            f"({error.strerror or error}): {str(path)[:100]}"
        ) from None


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
    warn: Callable[[str], None] = lambda message: None,
) -> list[Accuracy]:
    """Accuracy of each contender. Every image is read once; unreadable ones are told to ``on_error`` and left out.

    ``warn`` is told what makes an AP doubtful: labels that are no category of the annotations, classes of other names,
    images of another size than annotated.

    Raises:
        InputError: no image can be read.
    """
    for text in _other_names(contenders, annotations):
        warn(text)
    found: list[dict[int, Detections]] = [{} for _ in contenders]
    sizes: dict[int, tuple[int, ...]] = {}
    largest = max(contender.batch for contender in contenders)
    for ids, images in _chunks(annotations.paths, largest, on_error):
        sizes.update(zip(ids, (image.shape[:2] for image in images), strict=True))
        for contender, results in zip(contenders, found, strict=True):
            progress(f"accuracy of {contender.title}, image {len(results) + 1} of {len(annotations.paths)}")
            detected = detectors[contender.path](images, keep_ratio=contender.keep_ratio)
            results.update(zip(ids, detected, strict=True))
    if not found[0]:
        raise InputError("none of the annotated images can be read")
    _check_sizes(sizes, annotations, warn)
    _check_labels(contenders, found, annotations, warn)
    return [evaluate(annotations.dataset, results) for results in found]


def _other_names(contenders: Sequence[Contender], annotations: Annotations) -> Iterator[str]:
    """Of each file whose classes have other names than the annotations' categories of their numbers, a warning."""
    categories = annotations.dataset["categories"]
    for name, names in {contender.name: contender.metadata.class_names for contender in contenders}.items():
        other = [
            f"{category['id']} is {category['name']!r} in the annotations and {names[category['id']]!r} in the artefact"
            for category in categories
            if names and isinstance(category.get("name"), str) and 0 <= category["id"] < len(names)
            if category["name"].strip().casefold() != names[category["id"]].strip().casefold()
        ]
        if other:
            yield (
                f"{name}: {len(other)} of {len(categories)} categories have other names than its classes, the first: "
                f"{other[0]}: if they are numbered in another order, its AP is of no use until they are numbered alike"
            )


def _check_sizes(sizes: Mapping[int, tuple[int, ...]], annotations: Annotations, warn: Callable[[str], None]) -> None:
    """Warn of images that are not as large as annotated: their boxes may be of another scale, or of an unturned image."""
    other = []
    for image in annotations.dataset["images"]:
        said = (image.get("height"), image.get("width"))
        if image["id"] in sizes and all(map(is_number, said)) and sizes[image["id"]] != said:
            height, width = sizes[image["id"]]
            other.append(f"{image['file_name']} is {width}×{height} pixels, not {said[1]:g}×{said[0]:g}")
    if other:
        warn(
            f"{len(other)} of {len(sizes)} images are not of the size that the annotations say, the first: {other[0]}: if "
            "the boxes are of that other size too, AP is of no use until they are of these images"
        )


def _check_labels(
    contenders: Sequence[Contender],
    found: Sequence[Mapping[int, Detections]],
    annotations: Annotations,
    warn: Callable[[str], None],
) -> None:
    categories = {category["id"] for category in annotations.dataset["categories"]}
    labels: dict[str, Counter[int]] = {}
    for contender, results in zip(contenders, found, strict=True):
        counts = labels.setdefault(contender.name, Counter())  # one count, and warning, for all ratios of a file
        for detections in results.values():
            counts.update(detections.labels.tolist())
    for name, counts in labels.items():
        strange = {label: count for label, count in counts.items() if label not in categories}
        if strange:
            share = 100 * sum(strange.values()) / counts.total()
            warn(
                f"{name}: labels {_listed(strange)} ({share:.0f} % of its detections) are not among the category ids "
                f"{_listed(categories)} of the annotations and count as wrong: if its labels are numbered from 0 and the "
                "categories from 1, its AP is of no use until they are numbered alike"
            )


def _listed(numbers: Iterable[int]) -> str:
    """All of a few, else the ends."""
    ordered = sorted(numbers)
    few = ", ".join(map(str, ordered))
    return few if len(ordered) <= 6 else f"{ordered[0]}, {ordered[1]} … {ordered[-1]} ({len(ordered)} of them)"


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
