"""The data set on disk is the scenes, in a form that the bench and any COCO tool reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from sparse_detr_deploy.benchmarks.accuracy import Annotations, evaluate
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import InputError, OutputError
from sparse_detr_deploy.training.cli import main
from sparse_detr_deploy.training.coco import coco_dataset, write_dataset
from sparse_detr_deploy.training.scenes import Scene, SceneSpec, render_scene
from tests.failing_calls import fail_once

SPEC = SceneSpec(height=96, width=96, objects=(1, 3), sizes=(12, 48))


def test_images_and_annotations_on_disk(tmp_path: Path) -> None:
    file = write_dataset(tmp_path, SPEC, "val", 4)
    annotations = Annotations.read(file, tmp_path / "val")
    assert len(annotations.paths) == 4
    assert annotations.absent == 0
    for index, path in annotations.paths.items():
        scene = render_scene(SPEC, "val", 0, index)
        np.testing.assert_array_equal(cv2.imread(str(path))[:, :, ::-1], scene.image)
        found = [entry for entry in annotations.dataset["annotations"] if entry["image_id"] == index]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in found)]
        np.testing.assert_allclose(np.array(corners).reshape(-1, 4), scene.boxes)
        assert [entry["category_id"] for entry in found] == scene.labels.tolist()


def test_the_area_is_of_the_box() -> None:
    scene = Scene(np.zeros((96, 96, 3), np.uint8), np.array([[10, 20, 14, 28.5]], np.float32), np.array([7]))
    (entry,) = coco_dataset([scene])["annotations"]
    assert (entry["bbox"], entry["area"], entry["category_id"]) == ([10, 20, 4, 8.5], 34, 7)


def test_written_twice_it_is_the_same_to_the_byte(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_dataset(tmp_path / name, SPEC, "val", 3)
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_truth_has_an_average_precision_of_one_and_empty_images_count() -> None:
    scenes = [render_scene(SPEC, "val", 0, index) for index in range(6)]
    empty = render_scene(SceneSpec(height=96, width=96, objects=(0, 0), sizes=(12, 48)), "val", 0, 0)
    scenes.append(empty)
    found = {
        index: Detections(scene.boxes, np.ones(len(scene.labels), np.float32), scene.labels.astype(np.int32), (96, 96))
        for index, scene in enumerate(scenes)
    }
    accuracy = evaluate(coco_dataset(scenes), found)
    assert accuracy.values["AP"] == pytest.approx(1)
    assert accuracy.images == 7


def test_a_split_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    write_dataset(tmp_path, SPEC, "val", 1)
    before = (tmp_path / "val.json").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write_dataset(tmp_path, SPEC, "val", 2)
    assert (tmp_path / "val.json").read_bytes() == before


def test_written_over_when_asked_nothing_of_the_old_stays(tmp_path: Path) -> None:
    write_dataset(tmp_path, SPEC, "val", 4)
    write_dataset(tmp_path, SPEC, "val", 2, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "val").iterdir()) == ["000000.png", "000001.png"]
    assert len(json.loads((tmp_path / "val.json").read_text())["images"]) == 2


def test_interrupted_it_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, SPEC, "val", 2)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*"))}

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("sparse_detr_deploy.training.coco.coco_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, SPEC, "val", 3, overwrite=True)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*"))} == before


def test_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        write_dataset(tmp_path, SPEC, "val", 0)


def test_one_command_writes_the_validation_set(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["digits", "--write-dataset", str(tmp_path), "--images", "3"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tmp_path / "val.json")
    assert len(json.loads((tmp_path / "val.json").read_text())["images"]) == 3
    assert len(list((tmp_path / "val").glob("*.png"))) == 3
    again = CliRunner().invoke(main, ["digits", "--write-dataset", str(tmp_path), "--images", "2"])
    assert again.exit_code == 6
    assert "give --force" in again.stderr
    forced = CliRunner().invoke(main, ["digits", "--write-dataset", str(tmp_path), "--images", "2", "--force"])
    assert forced.exit_code == 0
    assert len(list((tmp_path / "val").glob("*.png"))) == 2


def test_the_training_set_is_as_large_as_training_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("sparse_detr_deploy.training.coco.write_dataset", lambda *given: asked.append(given))
    result = CliRunner().invoke(main, ["digits", "--write-dataset", str(tmp_path), "--split", "train"])
    assert result.exit_code == 0, result.output
    assert asked[0][2:] == ("train", 16000, 0, False)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _force(folder: Path) -> Any:
    return CliRunner().invoke(main, ["digits", "--write-dataset", str(folder), "--images", "2", "--force"])


def test_a_folder_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "holiday.jpg").write_bytes(b"a picture")
    before = _tree(tmp_path)
    result = CliRunner().invoke(main, ["digits", "--write-dataset", str(tmp_path), "--images", "2"])
    assert result.exit_code == 6
    assert f"{tmp_path / 'val'} exists already" in result.stderr
    forced = _force(tmp_path)
    assert forced.exit_code == 6
    assert "holiday.jpg in it is not of the data set" in forced.stderr
    assert _tree(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        {"images": [{"file_name": "000000.png"}], "annotations": [], "categories": []},
        {"info": {"generator": "another program"}, "images": [{"file_name": "000000.png"}]},
        {"info": {"generator": ["sparse-detr-deploy"]}, "images": [{"file_name": "000000.png"}]},
        {"info": {"generator": "sparse-detr-deploy 0.2"}, "images": [{"file_name": "../000000.png"}]},
        {"info": {"generator": "sparse-detr-deploy 0.2"}, "images": [{"file_name": ["000000.png"]}]},
        {"info": {"generator": "sparse-detr-deploy 0.2"}, "images": 3},
        [],
    ],
)
def test_annotations_of_somebody_else_are_not_written_over(content: Any, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "000000.png").write_bytes(b"a picture")
    (tmp_path / "val.json").write_text(json.dumps(content))
    before = _tree(tmp_path)
    forced = _force(tmp_path)
    assert forced.exit_code == 6, forced.output
    assert "val.json is not replaced" in forced.stderr
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "folder", "link", "link to the folder"])
def test_what_was_put_into_a_data_set_is_not_removed(kind: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", SPEC, "val", 3)
    val = tmp_path / "data" / "val"
    if kind == "file":
        (val / "notes.txt").write_text("mine")
    elif kind == "folder":
        (val / "more").mkdir()
    elif kind == "link":
        (val / "000001.png").unlink()
        (val / "000001.png").symlink_to(tmp_path / "elsewhere")
    else:
        val.rename(tmp_path / "elsewhere")
        val.symlink_to(tmp_path / "elsewhere")
    before = _tree(tmp_path)
    with pytest.raises(OutputError, match="is not replaced"):
        write_dataset(tmp_path / "data", SPEC, "val", 2, overwrite=True)
    assert _tree(tmp_path) == before


def test_what_comes_while_it_is_written_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, SPEC, "val", 2)
    before = _tree(tmp_path)

    def render(*arguments: Any) -> Any:
        (tmp_path / "val" / "late.txt").write_text("mine")
        return render_scene(*arguments)

    monkeypatch.setattr("sparse_detr_deploy.training.coco.render_scene", render)
    with pytest.raises(OutputError, match=r"late\.txt in it"):
        write_dataset(tmp_path, SPEC, "val", 1, overwrite=True)
    assert _tree(tmp_path) == {**before, "val/late.txt": b"mine"}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("call", [("rename", 0), ("rename", 1), ("replace", 0)], ids=str)
def test_the_old_one_comes_back(
    call: tuple[str, int], error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the renames fails: old folder aside, new folder, annotations."""
    write_dataset(tmp_path, SPEC, "val", 3)
    before = _tree(tmp_path)
    fail_once(monkeypatch, os, *call, error)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError):
        write_dataset(tmp_path, SPEC, "val", 2, overwrite=True)
    assert _tree(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"val", "val.json"}


def test_the_old_one_comes_back_though_the_new_one_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, SPEC, "val", 2)
    before = _tree(tmp_path)

    def render(*arguments: Any) -> Any:
        for part in tmp_path.glob(".val.*.part"):
            shutil.rmtree(part)
        return render_scene(*arguments)

    monkeypatch.setattr("sparse_detr_deploy.training.coco.render_scene", render)
    with pytest.raises(OutputError):
        write_dataset(tmp_path, SPEC, "val", 1, overwrite=True)
    assert _tree(tmp_path) == before


def test_an_old_one_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_dataset(tmp_path, SPEC, "val", 2)
    monkeypatch.setattr(Path, "rmdir", lambda path: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    write_dataset(tmp_path, SPEC, "val", 1, overwrite=True)
    assert [path.name for path in (tmp_path / "val").iterdir()] == ["000000.png"]
    assert "cannot be removed (Read-only file system)" in caplog.text
