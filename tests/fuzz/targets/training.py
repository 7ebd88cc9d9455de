"""Training configs and data sets."""

from __future__ import annotations

import cv2
import numpy as np

from sparse_detr_deploy.training.cli import _SHIPPED
from sparse_detr_deploy.training.coco_folder import CocoFolder
from sparse_detr_deploy.training.config import read_config
from tests.fuzz.harness import Case, Target
from tests.fuzz.targets.measuring import _COCO, _drawn

_LITERALS = (
    *(
        "0",
        "-1",
        "1",
        "7",
        "1e5",
        "1e400",
        "-0.0",
        "0.5",
        "nan",
        "inf",
        "true",
        '"x"',
        '""',
        "[]",
        "[1]",
        "[1, 2]",
        "{}",
    ),
    *(
        "1" + "0" * 400,
        "[" * 50 + "]" * 50,
        "[" * 5000 + "]" * 5000,
        "1979-05-27",
        '"../x"',
        "9223372036854775807",
        "[3, 9.5]",
    ),
)


def run_config(case: Case) -> None:
    """``read_config`` of the shipped file with lines changed."""
    lines = (_SHIPPED / "digits.toml").read_text(encoding="utf-8").splitlines()
    mutator = case.mutator
    for _ in range(1 if case.mutated else mutator.random.randint(2, 8)):
        at = mutator.random.randrange(len(lines))
        key, equals, _ = lines[at].partition(" = ")
        change = mutator.random.randrange(10)
        if equals and change < 7:
            lines[at] = f"{key} = {mutator.pick(_LITERALS)}"
        elif change == 7:
            del lines[at]
        elif change == 8:
            lines.insert(at, mutator.pick(("x = 1", "[model]", "[[model]]", "device = 'cuda'", "a." * 2000 + "b = 1")))
        else:
            lines[at] = mutator.data(lines[at].encode()).decode("utf-8", "replace")
    file = case.folder / "config.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    read_config(file).to_dict()


def run_dataset(case: Case) -> None:
    """``CocoFolder``."""
    valid = {**_COCO, "annotations": [{**entry, "category_id": 3} for entry in _COCO["annotations"]]}
    images = case.folder / "val"
    if not images.exists():
        images.mkdir()
        for index in range(2):
            cv2.imwrite(str(images / f"{index}.png"), np.zeros((20, 30, 3), dtype=np.uint8))
    document = case.mutator.document(valid) if case.mutated else _drawn(case, valid)
    (case.folder / "val.json").write_bytes(case.mutator.json(document).encode("utf-8", "surrogatepass"))
    scenes = CocoFolder(case.folder, "val", 20, 30)
    for index in range(len(scenes)):
        scene = scenes.scene(index)
        assert np.isfinite(scene.boxes).all()


TARGETS = (Target("config", run_config, 8), Target("dataset", run_dataset, 8))
