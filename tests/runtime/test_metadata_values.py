"""Values that files in the world already hold, and that readers of other versions count on."""

from __future__ import annotations

import dataclasses
import json

from sparse_detr_deploy.metadata import IMAGENET_MEAN, IMAGENET_STD, METADATA_KEY, SCHEMA_VERSION, Metadata
from tests.runtime.test_metadata import LEVELS, PLAIN


def test_normalisation_is_that_of_imagenet() -> None:
    """Of torchvision's and the official code's weights."""
    assert IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert IMAGENET_STD == (0.229, 0.224, 0.225)
    assert (METADATA_KEY, SCHEMA_VERSION) == ("sparse_detr_deploy", 1)


def test_what_is_not_said() -> None:
    """The defaults, which a reader takes where a file of another version is silent."""
    expected = {
        "name": "x",
        "architecture": "r50",
        "model": {},
        "height": 96,
        "width": 128,
        "level_shapes": [list(shape) for shape in LEVELS],
        "batch": [1, 1, 1],
        "rho": None,
        "dynamic_rho": False,
        "padded": False,
        "input_dtype": "float32",
        "color": "rgb",
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "outputs": "detections",
        "num_detections": 100,
        "num_queries": 300,
        "num_classes": 91,
        "class_names": None,
        "precision": "float32",
        "opset": 20,
        "inlined": False,
        "custom_ops": {},
        "checkpoint": {},
        "versions": {},
        "verification": {},
        "gmacs_fixed": None,
        "gmacs_per_kept_token": 0.0,
        "toolkit_version": "",
        "digest": "",
        "schema_version": 1,
        # worked out from the others, for readers that are not ours
        "box_format": "x1, y1, x2, y2 in 0..1",
        "num_keep": None,
        "resize": "stretch",
        "token_count": 12 * 16 + 6 * 8 + 3 * 4 + 2 * 2,
    }
    metadata = Metadata(name="x", architecture="r50", model={}, height=96, width=128, level_shapes=LEVELS)
    assert json.loads(metadata.to_json()) == expected


def test_text_stays_readable_in_the_file() -> None:
    assert '"größe"' in dataclasses.replace(PLAIN, class_names=("größe",)).to_json()
