"""What a detector asks of its runner, step by step, with a runner that only records."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest

from sparse_detr_deploy import BackendError, Detector, InputError
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.preprocessing import Feed, prepare
from sparse_detr_deploy.signature import BATCH, signature

METADATA = Metadata(
    "x",
    "r50",
    {},
    96,
    128,
    ((12, 16), (6, 8), (3, 4), (2, 2)),
    rho=0.3,
    dynamic_rho=True,
    batch=(2, 3, 4),
    num_detections=3,
    input_dtype="uint8",
    class_names=("cat", "dog"),
)


class Recorder:
    """Keeps the feeds; the scores are the first pixel of each image, a third and two thirds of it, over 255."""

    def __init__(self, metadata: Metadata = METADATA) -> None:
        self.metadata, self.feeds, self.closed = metadata, list[Feed](), 0

    def run(self, feed: Feed) -> Feed:
        self.feeds.append(feed)
        first = feed["images"][:, 0, 0, 0].astype(np.float32) / 255
        outputs = {
            name: np.zeros([len(first) if size == BATCH else int(size) for size in tensor.shape or ()], tensor.dtype)
            for name, tensor in signature(self.metadata).outputs.items()
        }
        outputs["scores"][:] = first[:, None] * np.array([1, 2 / 3, 1 / 3], dtype=np.float32)
        outputs["boxes"][:] = [0.25, 0.5, 0.75, 1.5]
        outputs["labels"][:] = [1, 0, 2]
        return outputs

    def describe(self) -> dict[str, Any]:
        return {"backend": "recorder"}

    def close(self) -> None:
        self.closed += 1


def image(red: int, height: int = 96, width: int = 128) -> np.ndarray:
    return np.full((height, width, 3), (10, 20, red), dtype=np.uint8)


def test_images_go_in_batches_and_come_back_in_order() -> None:
    recorder = Recorder()
    images = [image(40 * index, 50 + index, 60 + index) for index in range(6)]
    found = Detector(recorder)(images)
    assert [feed["images"].shape for feed in recorder.feeds] == [(4, 3, 96, 128), (2, 3, 96, 128)]
    assert [round(float(one.scores[0]) * 255) for one in found] == [40 * index for index in range(6)]
    assert [one.image_size for one in found] == [(50 + index, 60 + index) for index in range(6)]
    np.testing.assert_allclose(found[1].boxes, [[61 * 0.25, 51 * 0.5, 61 * 0.75, 51]] * 3)
    assert found[0].names == ["dog", "cat", "2"]


def test_small_batches_are_filled() -> None:
    recorder = Recorder()
    found = Detector(recorder)([image(255)])
    assert (len(found), len(recorder.feeds[0]["images"])) == (1, 2)
    assert len(Detector(recorder)(image(255))) == 3


def test_colours_and_files(tmp_path: Any) -> None:
    """Red comes first in the feed, whatever the order of an array; a file has an order of its own."""
    recorder = Recorder()
    cv2.imwrite(str(tmp_path / "x.png"), image(200))
    Detector(recorder)([image(200), tmp_path / "x.png"])
    Detector(recorder)([image(200)[:, :, ::-1], str(tmp_path / "x.png")], color="rgb")
    for feed in recorder.feeds:
        assert feed["images"][:, :, 0, 0].tolist() == [[200, 20, 10]] * 2


def test_the_ratio_goes_into_the_feed() -> None:
    recorder = Recorder()
    Detector(recorder)(image(9), keep_ratio=0.5)
    Detector(recorder)([image(9)] * 5)
    assert [feed["num_keep"].tolist() for feed in recorder.feeds] == [[129], [77], [77]]


def test_thresholds_leave_out_what_is_below() -> None:
    for threshold, count in ((0.0, 3), (1 / 3 - 1e-4, 3), (0.4, 2), (0.7, 1), (1.0, 1)):
        for found in Detector(Recorder())([image(255)] * 2, score_threshold=threshold):
            assert len(found) == count
    assert len(Detector(Recorder())(image(0), score_threshold=1e-9)) == 0
    assert len(Detector(Recorder())(image(0))) == 3


def test_a_warm_up_runs_the_usual_batch() -> None:
    recorder = Recorder()
    Detector(recorder).warmup()
    Detector(recorder).warmup(1, keep_ratio=1.0)
    assert [feed["images"].shape for feed in recorder.feeds] == [(3, 3, 96, 128)] * 3
    assert not any(feed["images"].any() for feed in recorder.feeds)
    assert [feed["num_keep"].tolist() for feed in recorder.feeds] == [[77], [77], [256]]


def test_steps_by_themselves() -> None:
    recorder = Recorder()
    detector = Detector(recorder)
    feed = detector.preprocess([image(200)[:, :, ::-1]] * 2, color="rgb", keep_ratio=0.1)
    expected = prepare([image(200)] * 2, METADATA, keep_ratio=0.1)
    assert feed.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(feed[name], array)
    found = detector.postprocess(recorder.run(feed), [(50, 60)])
    assert [one.image_size for one in found] == [(50, 60)]
    assert found[0].class_names == ("cat", "dog")
    assert detector.metadata is METADATA
    assert detector.describe() == {"backend": "recorder"}


def test_closing_frees_the_runner_once_at_the_end() -> None:
    recorder = Recorder()
    with Detector(recorder) as detector:
        detector(image(9))
        assert recorder.closed == 0
    assert recorder.closed == 1
    with pytest.raises(BackendError, match="the detector is closed"):
        detector(image(9))
    assert len(recorder.feeds) == 1


def test_a_clone_is_the_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, other = Recorder(), Recorder()
    with pytest.raises(BackendError, match="recorder runs one detector in several threads at once: share it"):
        Detector(recorder).clone()
    monkeypatch.setattr(recorder, "clone", lambda: other, raising=False)
    assert Detector(recorder).clone().runner is other


def test_the_place_in_the_list_is_named_once(tmp_path: Any) -> None:
    """Of arrays and of files; what is alone is named by its path or as the image."""
    (tmp_path / "x.png").write_bytes(b"none")
    detector = Detector(Recorder())
    for images, message in (
        ([image(9), image(9)[:, :, 0]], r"^image 1 is uint8 \[96, 128\], a grey image"),
        ([image(9), tmp_path / "x.png"], rf"^image 1: {tmp_path}/x\.png is corrupt"),
        (tmp_path / "x.png", rf"^{tmp_path}/x\.png is corrupt"),
        (image(9)[:, :, 0], r"^the image is uint8 \[96, 128\], a grey image"),
    ):
        with pytest.raises(InputError, match=message):
            detector(images)  # type: ignore[call-overload]


def test_what_is_not_finite_is_named_with_its_file(tmp_path: Any) -> None:
    class Broken(Recorder):
        def run(self, feed: Feed) -> Feed:
            outputs = super().run(feed)
            outputs["scores"][1, 2] = np.nan
            return outputs

    cv2.imwrite(str(tmp_path / "x.png"), image(200))
    fixed = dataclasses.replace(METADATA, dynamic_rho=False)
    with pytest.raises(BackendError, match=rf"^image 1 \({tmp_path}/x\.png\): x gave scores that are not finite"):
        Detector(Broken(fixed))([image(9), tmp_path / "x.png"])
