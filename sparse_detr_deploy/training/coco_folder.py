"""Scenes from a folder of images with COCO annotations, as ``--write-dataset`` writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.file_names import inner_path_fault
from sparse_detr_deploy.images import read_image
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_text
from sparse_detr_deploy.short_repr import short_repr
from sparse_detr_deploy.training.digits import CLASS_NAMES
from sparse_detr_deploy.training.scenes import Scene

_MOST_BYTES = 1 << 30
_SLACK = 0.5  # pixels that a box may stick out, by rounding


class CocoFolder:
    """``folder/<split>.json`` and ``folder/<split>/``; the annotations are checked here, images as they are read.

    Args:
        folder: of the data set.
        split: ``train`` or ``val``.
        height: of every image.
        width: of every image.

    Raises:
        InputError: files are missing, images are said to be of another size, a box lies outside its image or is
            empty, a class is unknown.
    """

    def __init__(self, folder: Path, split: str, height: int, width: int) -> None:
        self.file, self.images, self.size = folder / f"{split}.json", folder / split, (height, width)
        dataset = self._read()
        self.names: list[str] = []
        self._positions: dict[int, int] = {}
        for image in dataset["images"]:
            if (image["height"], image["width"]) != (height, width):
                raise InputError(
                    f"{self.file}: {image['file_name']} is {image['height']}×{image['width']}, "
                    f"but the config's scenes are {height}×{width}"
                )
            if image["id"] in self._positions:
                raise InputError(f"{self.file}: two images have the id {image['id']}")
            self._positions[image["id"]] = len(self.names)
            self.names.append(self._name(image["file_name"]))
        # unlike Path.is_file, no error for a name that is too long
        missing = [name for name in self.names if not os.path.isfile(self.images / name)]
        if missing:
            raise InputError(
                f"{len(missing)} of the images that {self.file} names are not in {self.images}: {missing[0][:100]}"
            )
        if not self.names:
            raise InputError(f"{self.file} names no images")
        self._objects: list[list[tuple[list[float], int]]] = [[] for _ in self.names]
        for entry in dataset["annotations"]:
            position = self._positions.get(entry["image_id"])
            if position is None:
                raise InputError(
                    f"{self.file}: annotation {entry['id']} is of image {entry['image_id']}, which is not there"
                )
            self._objects[position].append((self._box(entry, height, width), self._label(entry)))

    def _read(self) -> dict[str, Any]:
        try:
            dataset: dict[str, Any] = parse_json(read_text(self.file, _MOST_BYTES))
            for image in dataset["images"]:
                hash(image["id"]), image["file_name"], image["height"], image["width"]
            for entry in dataset["annotations"]:
                entry["id"], hash(entry["image_id"]), entry["category_id"], [value / 1 for value in entry["bbox"]]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"the annotations {self.file} cannot be read ({reason})") from None
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.file} is not a COCO detection file ({type(error).__name__}: {error})") from None
        return dataset

    def _name(self, name: object) -> str:
        fault = inner_path_fault(name) if isinstance(name, str) else "it is no text"
        if fault is not None:
            raise InputError(f"{self.file} names the image {short_repr(name)}, no file in {self.images}: {fault}")
        return str(name)

    def _box(self, entry: dict[str, Any], height: int, width: int) -> list[float]:
        if len(entry["bbox"]) != 4:
            raise InputError(f"{self.file}: annotation {entry['id']} has no bbox [x, y, width, height]")
        x, y, w, h = (float(value) for value in entry["bbox"])
        inside = min(x, y) >= -_SLACK and x + w <= width + _SLACK and y + h <= height + _SLACK
        if w > 0 and h > 0 and not inside:
            raise InputError(
                f"{self.file}: the box of annotation {entry['id']} lies outside its image of {height}×{width}: {entry['bbox']}"
            )
        box = [max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))]
        if not (w > 0 and h > 0 and box[0] < box[2] and box[1] < box[3]):  # NaN too
            raise InputError(f"{self.file}: the box of annotation {entry['id']} is empty: {entry['bbox']}")
        return box

    def _label(self, entry: dict[str, Any]) -> int:
        label = entry["category_id"]
        if type(label) is not int or not 0 <= label < len(CLASS_NAMES):
            raise InputError(
                f"{self.file}: annotation {entry['id']} is of class {label!r}, but the classes are 0 to {len(CLASS_NAMES) - 1}"
            )
        return label

    def __len__(self) -> int:
        return len(self.names)

    def scene(self, index: int) -> Scene:
        """Read one image.

        Raises:
            InputError: it cannot be read, or is not of the size that the annotations say.
        """
        path = self.images / self.names[index]
        try:
            image = read_image(path)
        except InputError as error:
            raise InputError(f"{error}: write the data set again") from None
        if image.shape[:2] != self.size:
            height, width = image.shape[:2]
            raise InputError(f"{path} is {height}×{width}, but {self.file} says {self.size[0]}×{self.size[1]}")
        objects = self._objects[index]
        return Scene(
            np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8),
            np.array([box for box, _ in objects], dtype=np.float32).reshape(-1, 4),
            np.array([label for _, label in objects], dtype=np.int64),
        )
