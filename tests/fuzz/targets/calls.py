"""Arguments of a detector's methods."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.preprocessing import Feed
from tests.fuzz.harness import Case, Target
from tests.fuzz.mutation import NUMBERS, TEXTS
from tests.fuzz.targets.artefacts import VALID
from tests.fuzz.targets.sessions import check_detections

_IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@dataclasses.dataclass
class _Runner:
    """Finds three objects in every image."""

    metadata: Metadata

    def run(self, feed: Feed) -> Feed:
        count = len(feed["images"])
        boxes = np.tile(np.array([0.1, 0.2, 0.5, 0.7], dtype=np.float32), (count, 3, 1))
        scores = np.tile(np.array([0.9, 0.5, 0.1], dtype=np.float32), (count, 1))
        return {"boxes": boxes, "scores": scores, "labels": np.tile(np.arange(3, dtype=np.int32), (count, 1))}

    def describe(self) -> dict[str, Any]:
        return {"backend": "fake"}

    def close(self) -> None:
        pass


@functools.cache
def _detectors() -> tuple[Detector, ...]:
    small = dataclasses.replace(VALID, num_detections=3)
    forms = (
        small,
        dataclasses.replace(small, dynamic_rho=True),
        dataclasses.replace(small, rho=None),
        dataclasses.replace(small, padded=True, dynamic_rho=True, class_names=None),
        dataclasses.replace(small, input_dtype="uint8", batch=(2, 2, 2)),
    )
    return tuple(Detector(_Runner(form)) for form in forms)


def _odd(case: Case) -> Any:
    """A value that is hardly ever the right one."""
    mutator = case.mutator
    kinds = (
        lambda: mutator.pick(NUMBERS),
        lambda: mutator.pick(TEXTS),
        lambda: mutator.pick((None, True, False, ..., object(), int, b"x", {}, set(), (), [], {"a": 1}, range(3), 1j)),
        lambda: np.array(
            mutator.pick((0, 1, [0.5], [0.1, 0.2], [[1]], "x", ["bgr", "rgb"], None, [None], 1j)), dtype=None
        ),
        lambda: mutator.pick((np.float32(0.5), np.float64("nan"), np.int64(3), np.bool_(True), np.str_("bgr"))),
        lambda: np.zeros(
            mutator.pick(((), (0,), (5, 5), (5, 5, 3), (5, 0, 3), (1, 5, 5, 3), (5, 5, 4))),
            mutator.pick((np.uint8, np.float32, np.int64, bool, object, ">u2")),
        ),
        lambda: mutator.value(),
    )
    return mutator.pick(kinds)()


def _images(case: Case) -> Any:
    mutator = case.mutator
    good = (
        _IMAGE,
        _IMAGE[::-1, ::2],
        np.asfortranarray(_IMAGE),
        np.ma.masked_array(_IMAGE),
        _IMAGE[:1, :1],
    )
    many = [mutator.pick(good) for _ in range(mutator.random.randrange(7))]
    return mutator.pick((mutator.pick(good), many, tuple(many)))


def run_call(case: Case) -> None:
    """``Detector.__call__``: all arguments good but one or two, or all odd."""
    detector = case.mutator.pick(_detectors())
    arguments: dict[str, Any] = {
        "images": _images(case),
        "color": case.mutator.pick(("bgr", "rgb", np.str_("bgr"))),
        "keep_ratio": case.mutator.pick((0.5, None, np.float32(0.5), 1)) if detector.metadata.dynamic_rho else None,
        "score_threshold": case.mutator.pick((0.0, 0.5, 1, np.float32(0.3))),
    }
    odd = [case.mutator.pick(list(arguments))] if case.mutated else list(arguments)
    for name in odd:
        if case.mutator.chance(0.9):
            arguments[name] = _odd(case)
    if isinstance(arguments["images"], list) and case.mutator.chance(0.2):
        arguments["images"] = [*arguments["images"], _odd(case)]
    found = detector(arguments.pop("images"), **arguments)
    for one in [found] if isinstance(found, Detections) else found:
        check_detections(one, detector.metadata)


def run_method(case: Case) -> None:
    """The other methods of detectors and detections."""
    detector, odd = case.mutator.pick(_detectors()), functools.partial(_odd, case)
    found = Detections(
        np.array([[0, 0, 5, 5], [1, 1, 9, 9]], dtype=np.float32),
        np.array([0.9, 0.3], dtype=np.float32),
        np.array([0, case.mutator.pick((1, -1, 10**6))], dtype=np.int32),
        (20, 30),
        detector.metadata.class_names,
    )
    outputs = detector.runner.run({"images": np.zeros((2, 3))})
    if case.mutated:
        outputs[case.mutator.pick(list(outputs))] = odd()
    calls = (
        lambda: found.above(odd()),
        lambda: found.to_coco(odd()),
        lambda: found.draw(odd()),
        lambda: found.draw(_IMAGE),
        lambda: detector.preprocess(odd()),
        lambda: detector.preprocess([odd()]),
        lambda: detector.preprocess([_IMAGE], color=odd()),
        lambda: detector.preprocess([_IMAGE], keep_ratio=odd()),
        lambda: detector.postprocess(outputs, [(20, 30), (20, 30)]),
        lambda: detector.postprocess(outputs, odd()),
        lambda: detector.postprocess(odd(), [(20, 30)]),
        lambda: detector.postprocess(outputs, [odd()]),
        lambda: detector.warmup(case.mutator.pick((-1, 0, 1, "2", 1.5, None, True, np.int64(1), np.ones(2)))),
        lambda: detector.warmup(1, keep_ratio=odd()),
        lambda: detector.metadata.num_keep(odd()),
        lambda: detector.metadata.gmacs(odd()),
    )
    case.mutator.pick(calls)()


TARGETS = (Target("call", run_call, 14), Target("method", run_method, 14))
