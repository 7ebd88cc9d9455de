"""Scenes as COCO annotations, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy import __version__
from sparse_detr_deploy.errors import InputError, OutputError
from sparse_detr_deploy.export.publish import check_output, publish
from sparse_detr_deploy.opencv import cv2
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_text
from sparse_detr_deploy.training.digits import CLASS_NAMES
from sparse_detr_deploy.training.folder_swap import check_holds_only, folder_swap
from sparse_detr_deploy.training.scenes import Scene, SceneSpec, render_scene

_PROGRAM = "sparse-detr-deploy"
_MOST_BYTES = 1 << 30


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

    Returns the path of the annotations, which are written last. With ``overwrite`` a data set that this function wrote
    is replaced: what its annotations name, and nothing else. The old one stays until the new one stands.

    Raises:
        InputError: no images are asked for.
        OutputError: the folder cannot be written to, or holds this split already and ``overwrite`` is not given, or
            with ``overwrite`` something that is not of a data set of ours.
    """
    if images < 1:
        raise InputError(f"{images} images are asked for, but a dataset has at least 1")
    folder = Path(folder)
    file, target = folder / f"{split}.json", folder / split
    replaced = check_dataset(folder, split, overwrite)
    with folder_swap(target, replaced) as swap, publish(file, overwrite) as annotations:
        scenes = []
        for index in range(images):
            scene = render_scene(spec, split, seed, index)
            path = swap.part / f"{index:06d}.png"
            if not cv2.imwrite(str(path), scene.image[:, :, ::-1]):
                raise OutputError(f"{target} cannot be written to: choose another place")
            scenes.append(scene)
        dataset = {"info": {"generator": f"{_PROGRAM} {__version__}"}, **coco_dataset(scenes)}
        annotations.write_text(json.dumps(dataset), encoding="utf-8")
        swap.swap()
    return file


def check_dataset(folder: Path, split: str, overwrite: bool = False) -> list[str]:
    """Raise what :func:`write_dataset` would raise, before any work; gives the names of the files that it replaces.

    Raises:
        OutputError: as :func:`write_dataset`.
    """
    file, target = folder / f"{split}.json", folder / split
    check_output(file, overwrite)
    there = target.exists() or target.is_symlink()
    if there and not overwrite:
        raise OutputError(
            f"{target} exists already: choose another place, or give --force to replace a data set of this program"
        )
    names = _written_names(file) if file.exists() else []
    if there:
        check_holds_only(target, names)
    return names


def _written_names(file: Path) -> list[str]:
    """The images that the annotations ``file`` names, which :func:`write_dataset` must have written."""
    remedy = "move it away, or choose another place"
    try:
        dataset = parse_json(read_text(file, _MOST_BYTES))
        generator = dataset["info"]["generator"]
        names = [image["file_name"] for image in dataset["images"]]
    except OSError as error:
        raise OutputError(f"{file} is not replaced, because it cannot be read ({error.strerror}): {remedy}") from None
    except (ValueError, KeyError, TypeError):
        generator, names = None, []
    if not isinstance(generator, str) or generator.split(" ")[0] != _PROGRAM:
        raise OutputError(
            f"{file} is not replaced, because it does not say that {_PROGRAM} wrote it (info.generator): {remedy}"
        )
    if not all(isinstance(name, str) and name == Path(name).name != ".." for name in names):
        raise OutputError(f"{file} is not replaced, because it names images in other folders: {remedy}")
    return names
