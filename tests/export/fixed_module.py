"""A module that gives fixed arrays, and what a file gives that agrees with them: for planted differences."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from sparse_detr_deploy.errors import VerificationError
from sparse_detr_deploy.export.comparison import compare
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import DetectorOutput, SparseDETR, build_model
from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.preprocessing import Feed
from tests.export.hostile_checkpoints import CONFIG

SIZE = (96, 128)
TOKENS, KEPT, RHO = 256, 77, 0.3
QUERIES, CLASSES, COUNT = CONFIG.num_queries, CONFIG.num_classes, 20
MODEL = build_model(CONFIG)


class Fixed:
    """A module that gives the arrays of ``output``, whatever it is called with, and the arrays of a file that agree.

    Token scores and logits of the proposals fall with the index; those of image 1 are beyond 1 in size. Probed
    are the first tokens and proposals of image 0, the last ones of image 1.
    """

    def __init__(self, precision: str = "float32", outputs: str = "detections", **changes: Any) -> None:
        self.model: SparseDETR = copy.copy(MODEL)
        self.metadata = Metadata(
            "x",
            "r50",
            {},
            *SIZE,
            self.model.level_shapes(*SIZE),
            batch=(2, 2, 2),
            rho=RHO,
            outputs=outputs,
            num_detections=COUNT,
            num_queries=QUERIES,
            num_classes=CLASSES,
            precision=precision,
        )
        self.metadata = dataclasses.replace(self.metadata, **changes)
        generator = np.random.default_rng(0)
        falling = np.linspace(0.5, -0.5, TOKENS, dtype=np.float32)
        self.scores = np.stack([falling, -8 * falling])
        # no two of a class alike, so that each detection has one partner
        self.logits = generator.permuted(np.linspace(-3, 3, 2 * QUERIES * CLASSES, dtype=np.float32))
        self.logits = self.logits.reshape(2, QUERIES, CLASSES)
        centres, sides = generator.uniform(0.4, 0.6, (2, QUERIES, 2)), generator.uniform(0.2, 0.4, (2, QUERIES, 2))
        self.boxes = np.concatenate([centres, sides], axis=2).astype(np.float32)
        # of class 0; below most of them the others
        self.proposals = np.full((2, TOKENS, CLASSES), -0.9, dtype=np.float32)
        self.proposals[..., 0] = np.stack([0.9 * falling, -8 * falling])
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.model.forward = self._forward  # type: ignore[method-assign]

    def _forward(self, *arguments: Any, **options: Any) -> DetectorOutput:
        self.calls.append((arguments, options))
        return DetectorOutput(
            pred_logits=torch.from_numpy(self.logits),
            pred_boxes=torch.from_numpy(self.boxes),
            token_scores=torch.from_numpy(self.scores),
            proposals=Prediction(torch.from_numpy(self.proposals), torch.zeros(2, TOKENS, 4)),
        )

    def found(self) -> Feed:
        """What the file gives: the same."""
        probes = {
            "probe_scores": self.scores.copy(),
            "probe_indices": np.stack([np.arange(KEPT), np.arange(TOKENS - KEPT, TOKENS)]),
            "probe_proposals": np.stack([np.arange(QUERIES), np.arange(TOKENS - 1, TOKENS - 1 - QUERIES, -1)]),
        }
        if self.metadata.outputs == "raw":
            return {**probes, "pred_logits": self.logits.copy(), "pred_boxes": self.boxes.copy()}
        flat = self.logits.reshape(2, -1)
        order = np.argsort(-flat, axis=1)[:, :COUNT]
        boxes = np.take_along_axis(self.boxes, order[..., None] // CLASSES, axis=1)
        corners = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=2)
        scores = 1 / (1 + np.exp(-np.take_along_axis(flat, order, axis=1)))
        return {**probes, "boxes": corners, "scores": scores, "labels": (order % CLASSES).astype(np.int32)}

    def compare(self, found: Feed, feed: Feed | None = None) -> VerificationReport:
        report = VerificationReport()
        images = np.zeros((2, 3, *SIZE), dtype=np.float32)
        compare(self.model, self.metadata, feed or {"images": images}, RHO, found, report, "here")
        return report

    def refuses(self, found: Feed, message: str) -> None:
        with pytest.raises(VerificationError, match=f"^here{message}"):
            self.compare(found)
