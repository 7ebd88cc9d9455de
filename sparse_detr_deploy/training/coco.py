"""Scenes as COCO annotations, in memory and on disk."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2

from sparse_detr_deploy.errors import InputError, OutputError
from sparse_detr_deploy.export.publish import publish
from sparse_detr_deploy.training.digits import CLASS_NAMES
from sparse_detr_deploy.training.scenes import Scene, SceneSpec, render_scene


def coco_dataset(scenes: Sequence[Scene]) -> dict[str, Any]:
    """Annotations of ``scenes``, whose image ids are 0, 1, …; a digit's category id is its value."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes):
        height, width = scene.image.shape[:2]
        images.append({"id": image_id, "file_name": f"{image_id:06d}.png", "height": height, "width": width})
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": label, "bbox": [x, y, w, h]}
                | {"area": w * h, "iscrowd": 0}
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_dataset(
    folder: str | Path, spec: SceneSpec, split: str, images: int, seed: int = 0, overwrite: bool = False
) -> Path:
    """Write the first ``images`` scenes as ``<split>/000000.png``, … and their annotations as ``<split>.json``.

    Returns the path of the annotations, which are written last.

    Raises:
        InputError: no images are asked for.
        OutputError: the folder cannot be written to, or holds this split already and ``overwrite`` is not given.
    """
    if images < 1:
        raise InputError(f"{images} images are asked for, but a dataset has at least 1")
    folder = Path(folder)
    target = folder / split
    with publish(folder / f"{split}.json", overwrite) as annotations, _new_folder(target) as part:
        scenes = []
        for index in range(images):
            scene = render_scene(spec, split, seed, index)
            path = part / f"{index:06d}.png"
            if not cv2.imwrite(str(path), scene.image[:, :, ::-1]):
                raise OutputError(f"{target} cannot be written to: choose another place")
            scenes.append(scene)
        annotations.write_text(json.dumps(coco_dataset(scenes)), encoding="utf-8")
    return folder / f"{split}.json"


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder to fill; it takes the place of ``target`` when the block ends well, else it is removed."""
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp keeps others out
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
