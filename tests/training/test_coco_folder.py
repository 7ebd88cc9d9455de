"""A data set on disk trains like the rendered scenes; one that is not right is refused before anything starts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.training.coco import write_dataset
from sparse_detr_deploy.training.coco_folder import CocoFolder
from sparse_detr_deploy.training.config import config_from
from sparse_detr_deploy.training.scenes import SceneSpec, render_scene
from sparse_detr_deploy.training.sources import check_sources
from sparse_detr_deploy.training.trainer import STATE, train
from tests.training.conftest import tiny_values

SPEC = SceneSpec(height=96, width=96, objects=(1, 3), sizes=(12, 48))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", SPEC, "train", 8)
    write_dataset(tmp_path / "data", SPEC, "val", 2)
    return tmp_path / "data"


def _change(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def _drop_last_image(data: dict[str, Any]) -> None:
    gone = data["images"].pop()["id"]
    data["annotations"] = [entry for entry in data["annotations"] if entry["image_id"] != gone]


def test_what_was_written_is_read_back(folder: Path) -> None:
    read = CocoFolder(folder, "train", 96, 96)
    assert len(read) == 8
    for index in range(8):
        expected, scene = render_scene(SPEC, "train", 0, index), read.scene(index)
        np.testing.assert_array_equal(scene.image, expected.image)
        np.testing.assert_allclose(scene.boxes, expected.boxes)
        np.testing.assert_array_equal(scene.labels, expected.labels)


def test_training_from_a_folder_is_training_from_its_scenes(folder: Path, tmp_path: Path) -> None:
    values = tiny_values(pretraining={"steps": 0})
    train(config_from(values), tmp_path / "rendered")
    train(config_from({**values, "dataset": str(folder)}), tmp_path / "read")
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("rendered", "read")]
    losses = [[json.loads(line).get("loss") for line in log] for log in logs]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["annotations"][0].update(bbox=[90, 10, 20, 20]), "annotation 1 lies outside its image"),
        (lambda data: data["annotations"][0].update(bbox=[10, 10, 0, 20]), "annotation 1 is empty"),
        (lambda data: data["annotations"][0].update(bbox=[10, 10, 5]), r"no bbox \[x, y, width, height\]"),
        (lambda data: data["annotations"][0].update(category_id=10), "class 10, but the classes are 0 to 9"),
        (lambda data: data["annotations"][0].update(category_id="7"), "class '7'"),
        (lambda data: data["annotations"][0].update(image_id=99), "image 99, which is not there"),
        (lambda data: data["images"][3].update(height=100), "100×96, but the config's scenes are 96×96"),
        (lambda data: data["images"][3].update(file_name="gone.png"), r"1 of the images .* gone\.png"),
        (lambda data: data["images"].clear() or data["annotations"].clear(), "names no images"),
        (lambda data: data["images"].append(dict(data["images"][0])), "two images have the id 0"),
        (lambda data: data["images"][0].update(id=[1]), "not a COCO detection file"),
        (lambda data: data["annotations"][0].update(bbox=[96.2, 10, 0.2, 5]), "annotation 1 is empty"),
        (lambda data: data["annotations"][0].update(bbox=[-0.4, 10, 0.3, 5]), "annotation 1 is empty"),
        (lambda data: data["annotations"][0].update(bbox=[math.nan, 10, 5, 5]), "annotation 1 lies outside"),
        (lambda data: data["images"][0].update(file_name="/etc/passwd"), "names the image '/etc/passwd'"),
        (lambda data: data["images"][0].update(file_name="../val/000000.png"), "names the image '../val/000000.png'"),
        (lambda data: data["images"][0].update(file_name="\0"), "names the image"),
        (lambda data: data["images"][0].update(file_name=[3]), r"names the image \[3\]"),
        (lambda data: data["annotations"][0].update(bbox=[10**400, 10, 5, 5]), "more than 64 bits"),
        (lambda data: data["annotations"][0].update(bbox=[-(10**400), 10, 5, 5]), "more than 64 bits"),
        (lambda data: data["annotations"][0].update(bbox="1234"), "not a COCO detection file"),
        (lambda data: data["annotations"][0].update(category_id=True), "class True"),
        (lambda data: _drop_last_image(data), "train.json has 7 images, but train_images is 8"),
        (lambda data: data.pop("images"), "not a COCO detection file"),
    ],
)
def test_a_folder_that_is_not_right(
    change: Callable[[dict[str, Any]], Any], message: str, folder: Path, tmp_path: Path
) -> None:
    _change(folder / "train.json", change)
    with pytest.raises(InputError, match=message):
        train(config_from(tiny_values(dataset=str(folder))), tmp_path / "run")
    assert not (tmp_path / "run" / STATE).exists()


def test_boxes_may_stick_out_by_rounding_and_are_cut_off(folder: Path) -> None:
    """Half a pixel on each side, of images that are 96 pixels wide and high."""
    boxes = [[-0.5, 10, 20, 30], [10, -0.5, 20, 30], [76.5, 10, 20, 30], [10, 66.5, 20, 30], [-0.25, -0.25, 96.5, 96.5]]
    cut = [[0, 10, 19.5, 40], [10, 0, 30, 29.5], [76.5, 10, 96, 40], [10, 66.5, 30, 96], [0, 0, 96, 96]]

    def change(data: dict[str, Any]) -> None:
        data["annotations"] = [
            {"id": index, "image_id": 0, "category_id": index, "bbox": box} for index, box in enumerate(boxes)
        ]

    _change(folder / "train.json", change)
    scene = CocoFolder(folder, "train", 96, 96).scene(0)
    assert scene.boxes.tolist() == cut
    assert scene.labels.tolist() == [0, 1, 2, 3, 4]
    for box in ([-0.75, 10, 20, 30], [10, -0.75, 20, 30], [76.75, 10, 20, 30], [10, 66.75, 20, 30]):
        boxes[:] = [box]
        _change(folder / "train.json", change)
        with pytest.raises(InputError, match="annotation 0 lies outside its image of 96×96"):
            CocoFolder(folder, "train", 96, 96)


def test_images_of_a_folder_may_be_numbered_as_one_likes(folder: Path) -> None:
    """Objects go by the id of their image, not by its place in the list."""

    def change(data: dict[str, Any]) -> None:
        data["images"].reverse()
        for image in data["images"]:
            image["id"] += 100
        for entry in data["annotations"]:
            entry["image_id"] += 100

    _change(folder / "train.json", change)
    read = CocoFolder(folder, "train", 96, 96)
    for index in range(8):
        expected = render_scene(SPEC, "train", 0, 7 - index)
        np.testing.assert_array_equal(read.scene(index).image, expected.image)
        np.testing.assert_allclose(read.scene(index).boxes, expected.boxes)


def test_height_and_width_are_not_swapped(tmp_path: Path) -> None:
    wide = SceneSpec(height=96, width=128, objects=(1, 3), sizes=(12, 48))
    write_dataset(tmp_path, wide, "val", 1)
    assert CocoFolder(tmp_path, "val", 96, 128).scene(0).image.shape == (96, 128, 3)
    with pytest.raises(InputError, match="000000.png is 96×128, but the config's scenes are 128×96"):
        CocoFolder(tmp_path, "val", 128, 96)
    entry = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [100, 60, 28, 36]}]
    _change(tmp_path / "val.json", lambda data: data.update(annotations=entry))
    assert CocoFolder(tmp_path, "val", 96, 128).scene(0).boxes.tolist() == [[100, 60, 128, 96]]


def test_files_that_are_missing(folder: Path) -> None:
    config = config_from(tiny_values(dataset=str(folder)))
    check_sources(config)
    (folder / "val" / "000001.png").unlink()
    with pytest.raises(InputError, match=r"1 of the images .* 000001\.png"):
        check_sources(config)
    (folder / "val.json").unlink()
    with pytest.raises(InputError, match="val.json cannot be read"):
        check_sources(config)


def test_an_image_that_is_none(folder: Path) -> None:
    (folder / "train" / "000000.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="corrupt or not an image.*: write the data set again"):
        CocoFolder(folder, "train", 96, 96).scene(0)


def test_an_image_of_another_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "train" / "000000.png"), np.zeros((90, 96, 3), np.uint8))
    with pytest.raises(InputError, match=r"000000.png is 90×96, but .*train.json says 96×96"):
        CocoFolder(folder, "train", 96, 96).scene(0)


def test_an_image_without_objects_is_read(folder: Path) -> None:
    _change(folder / "train.json", lambda data: data["annotations"].clear())
    scene = CocoFolder(folder, "train", 96, 96).scene(0)
    assert scene.boxes.shape == (0, 4)


@pytest.mark.parametrize("content", ["[" * 5000, '{"images": ' + "[" * 900 + "]" * 900 + "}", "\x00", b"\xff\xfe", "7"])
def test_annotations_that_are_none(content: str | bytes, folder: Path) -> None:
    (folder / "train.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"train\.json"):
        CocoFolder(folder, "train", 96, 96)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_is_not_waited_for(folder: Path) -> None:
    read = CocoFolder(folder, "train", 96, 96)
    for name in ("train/000000.png", "train.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    with pytest.raises(InputError, match=r"000000\.png cannot be read \(it is a FIFO"):
        read.scene(0)
    with pytest.raises(InputError, match=r"train\.json cannot be read \(it is a FIFO"):
        CocoFolder(folder, "train", 96, 96)
