"""The detector, as an application uses it."""

from __future__ import annotations

import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from sparse_detr_deploy import BackendError, Detections, Detector, InputError
from sparse_detr_deploy import detector as detector_module
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.images import load_image
from sparse_detr_deploy.metadata import IMAGENET_MEAN, IMAGENET_STD
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.preprocessing import resized
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.conftest import NAMES, SIZE, Export
from tests.matching import arrays, assert_same_detections
from tests.runtime.test_preprocessing import axis_weights

IMAGES = [
    synthetic_image(seed, *size) for seed, size in enumerate([(96, 128), (240, 90), (50, 200), (300, 400), (33, 40)])
]


@pytest.fixture(scope="module")
def detector(export_tiny: Export):
    with Detector.load(export_tiny().path) as detector:
        yield detector


def by_the_module(model: SparseDETR, image: np.ndarray, padded: bool, keep_ratio: float | None = None) -> Detections:
    """What the PyTorch module finds in ``image``, boxes in its pixels, computed step by step."""
    height, width = image.shape[:2]
    rows, columns = SIZE
    if padded:
        scale = min(SIZE[0] / height, SIZE[1] / width)
        rows, columns = round(height * scale), round(width * scale)
    # in two steps, because what is selected hangs on the last bit of a pixel
    weights = axis_weights(height, rows), axis_weights(width, columns)
    by_rule = np.einsum("ih,jw,hwc->ijc", *weights, image.astype(np.float64), optimize=True)
    image = resized(image, rows, columns)
    assert np.abs(image - by_rule).max() <= 1.6
    pixels = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1) / 255
    canvas = torch.zeros(1, 3, *SIZE)
    canvas[0, :, :rows, :columns] = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[
        :, None, None
    ]
    with torch.no_grad():
        found = model(canvas, torch.tensor([[rows, columns]]) if padded else None, keep_ratio)
    scores, chosen = found.pred_logits[0].sigmoid().flatten().topk(20)
    centre, size = found.pred_boxes[0, chosen // 5].split(2, dim=-1)
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1) * torch.tensor([width, height] * 2)
    limits = np.array([width, height] * 2, dtype=np.float32)
    return Detections(corners.numpy().clip(0, limits), scores.numpy(), (chosen % 5).int().numpy(), (height, width))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("index", range(len(IMAGES)))
def test_boxes_lie_in_the_original_pixels(
    index: int, padded: bool, export_tiny: Export, tiny_model: SparseDETR
) -> None:
    image = IMAGES[index]
    with Detector.load(export_tiny(padded=padded).path) as detector:
        found = detector(image)
    expected = by_the_module(tiny_model, image, padded)
    scale = max(1, max(np.divide(image.shape[:2], SIZE)))  # a tenth of a pixel of the canvas
    assert_same_detections(arrays(expected), arrays(found), box=0.1 * scale)
    assert found.image_size == image.shape[:2]
    assert found.boxes.min() >= 0
    assert (found.boxes <= [image.shape[1], image.shape[0]] * 2).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int32)


def test_one_image_gives_one_and_a_list_gives_a_list(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), IMAGES[1])
    expected = arrays(detector(IMAGES[1]))
    for image in (path, str(path)):
        found = detector(image)
        assert isinstance(found, Detections)
        assert_same_detections(expected, arrays(found), 1e-6, 1e-3)
    for images in ([IMAGES[1]], (IMAGES[1],), [path], (str(path),)):
        found_list = detector(images)
        assert isinstance(found_list, list)
        assert len(found_list) == 1
        assert_same_detections(expected, arrays(found_list[0]), 1e-6, 1e-3)
    assert detector([]) == []
    assert detector(()) == []


def test_lists_keep_their_order(detector: Detector) -> None:
    alone = [detector(image) for image in IMAGES]
    together = detector(IMAGES)
    assert [found.image_size for found in together] == [image.shape[:2] for image in IMAGES]
    for one, other in zip(alone, together, strict=True):
        assert_same_detections(arrays(one), arrays(other), 1e-6, 1e-3)


def test_colours(detector: Detector) -> None:
    expected = arrays(detector(IMAGES[3]))
    found = detector(np.ascontiguousarray(IMAGES[3][:, :, ::-1]), color="rgb")
    assert_same_detections(expected, arrays(found), 1e-6, 1e-3)
    assert_same_detections(expected, arrays(detector(IMAGES[3][:, :, ::-1], color="rgb")), 1e-6, 1e-3)
    other = detector(IMAGES[3], color="rgb")
    assert not np.allclose(other.scores, expected[0], atol=1e-4)
    with pytest.raises(InputError, match="'gbr' is not one of"):
        detector(IMAGES[3], color="gbr")
    with pytest.raises(InputError, match="'gbr' is not one of"):
        detector([], color="gbr")


def test_colours_of_files_are_not_flipped(detector: Detector, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), IMAGES[0])
    expected = arrays(detector(IMAGES[0]))
    assert_same_detections(expected, arrays(detector(tmp_path / "x.png", color="rgb")), 1e-6, 1e-3)


def test_a_score_threshold(detector: Detector) -> None:
    everything = detector(IMAGES[0])
    threshold = float(everything.scores[7])
    assert len(detector(IMAGES[0], score_threshold=threshold)) == 8
    assert len(detector(IMAGES[0], score_threshold=1.0)) == 0


def test_no_more_images_than_a_batch_are_decoded_at_once(
    export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(9)]
    for path in paths:
        cv2.imwrite(str(path), IMAGES[0])
    alive: weakref.WeakSet[np.ndarray] = weakref.WeakSet()
    peaks: list[int] = []

    class Watched(np.ndarray):  # by identity, where arrays compare by element
        __hash__ = object.__hash__  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:  # type: ignore[override]
            return self is other

    def load(*arguments: Any) -> np.ndarray:
        image = load_image(*arguments).view(Watched)
        alive.add(image)
        peaks.append(len(alive))
        return image

    monkeypatch.setattr(detector_module, "load_image", load)
    with Detector.load(export_tiny(batch=(2, 3, 4)).path) as batched:
        assert len(batched(paths)) == 9
    assert peaks == [1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_every_entry_is_looked_at_before_the_first_batch_runs(
    export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, broken, fifo = tmp_path / "good.png", tmp_path / "broken.png", tmp_path / "fifo.png"
    cv2.imwrite(str(good), IMAGES[0])
    broken.write_bytes(b"no image")
    os.mkfifo(fifo)
    with Detector.load(export_tiny().path) as detector:
        runs: list[int] = []
        run = detector.runner.run
        monkeypatch.setattr(detector.runner, "run", lambda feed: runs.append(1) or run(feed))
        for bad, message in (
            (None, "image 3 is a NoneType"),
            (IMAGES[0][:, :, 0], "image 3 is uint8 .* a grey image"),
            (tmp_path / "nowhere.png", r"image 3: .*nowhere\.png cannot be read \(No such file"),
            (fifo, r"image 3: .*fifo\.png cannot be read \(it is a FIFO"),
            (Path("/dev/zero"), r"image 3: /dev/zero cannot be read \(it is a device"),
            (tmp_path, r"image 3: .* cannot be read \(it is a folder"),
        ):
            with pytest.raises(InputError, match=f"^{message}"):
                detector([good, IMAGES[0], good, bad])
            assert not runs
        with pytest.raises(InputError, match=r"^image 3: .*broken\.png is corrupt"):
            detector([good, IMAGES[0], good, broken])
        assert len(runs) == 3


def test_the_limit_of_pixels(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), IMAGES[4])  # 33 × 40
    assert len(detector(path, max_pixels=33 * 40)) == 20
    with pytest.raises(InputError, match=r"^image 1: .*x\.png has 40 × 33 pixels, more than the 1,319"):
        detector([IMAGES[0], path], max_pixels=33 * 40 - 1)
    assert len(detector(IMAGES[0], max_pixels=1)) == 20  # of files only


def test_files_that_are_refused(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    for path, message in (
        (tmp_path / "empty.jpg", "is empty"),
        (tmp_path / "text.jpg", "corrupt"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(InputError, match=f"{path.name}.*{message}"):
            detector([IMAGES[0], path])


ODD_RATIOS = [0, -1, 1.5, float("nan"), "abc", "0.3", True, np.array([0.3]), np.array([0.1, 0.3]), np.array(0.3), [0.3]]


def test_keep_ratio_on_a_fixed_artefact(detector: Detector) -> None:
    for ratio in (0.5, *ODD_RATIOS, 10**5000):
        for images in (IMAGES[0], []):
            with pytest.raises(InputError, match=r"fixed at ρ = 0\.3 and cannot run at .{1,100}: export"):
                detector(images, keep_ratio=ratio)
        with pytest.raises(InputError, match=r"fixed at ρ = 0\.3"):
            detector.preprocess([IMAGES[0]], keep_ratio=ratio)
    for same in (0.3, np.float64(0.3)):
        assert len(detector(IMAGES[0], keep_ratio=same)) == 20


def test_keep_ratio_on_a_dynamic_artefact(dynamic_tiny: ExportResult, tiny_model: SparseDETR) -> None:
    with Detector.load(dynamic_tiny.path) as detector:
        for ratio in (0.01, 0.1, 0.77, 1.0):
            expected = by_the_module(tiny_model, IMAGES[0], False, ratio)
            assert_same_detections(arrays(expected), arrays(detector(IMAGES[0], keep_ratio=ratio)))
        assert_same_detections(arrays(by_the_module(tiny_model, IMAGES[0], False)), arrays(detector(IMAGES[0])))
        assert len(detector(IMAGES[0], keep_ratio=np.float32(0.5))) == 20
        for ratio in (*ODD_RATIOS, 10**5000):
            with pytest.raises(InputError, match="keep ratio"):
                detector(IMAGES[0], keep_ratio=ratio)


def test_batches_are_split_and_filled(export_tiny: Export, detector: Detector) -> None:
    batches: list[int] = []
    with Detector.load(export_tiny(batch=(2, 3, 4)).path) as batched:
        run = batched.runner.run
        batched.runner.run = lambda feed: batches.append(len(feed["images"])) or run(feed)  # type: ignore[method-assign]
        for count in (1, 2, 3, 4, 5, 9):
            images = [IMAGES[index % len(IMAGES)] for index in range(count)]
            found = batched(images)
            assert len(found) == count
            for image, one in zip(images, found, strict=True):
                assert_same_detections(arrays(detector(image)), arrays(one))
    assert batches == [2, 2, 3, 4, 4, 2, 4, 4, 2]


def test_several_threads(export_tiny: Export) -> None:
    with Detector.load(export_tiny(padded=True).path, num_threads=1) as detector:
        alone = [detector(image) for image in IMAGES]
        with ThreadPoolExecutor(4) as pool:
            for index, found in enumerate(pool.map(detector, IMAGES * 4)):
                assert_same_detections(arrays(alone[index % len(IMAGES)]), arrays(found), 1e-5, 1e-2)


def test_closing(export_tiny: Export) -> None:
    with Detector.load(export_tiny().path) as detector:
        detector.warmup(1)
    for call in (lambda: detector(IMAGES[0]), lambda: detector([]), detector.warmup):
        with pytest.raises(BackendError, match="closed"):
            call()
    detector.close()
    assert detector.metadata.name == "thin18_rho30_96x128"


def test_raw_artefacts_give_the_same_detections(export_tiny: Export, detector: Detector) -> None:
    with Detector.load(export_tiny(outputs="raw").path) as raw:
        assert_same_detections(arrays(detector(IMAGES[0])), arrays(raw(IMAGES[0])))


def test_uint8_artefacts_give_the_same_detections(export_tiny: Export, detector: Detector) -> None:
    with Detector.load(export_tiny(uint8_input=True).path) as other:
        assert other.preprocess([IMAGES[0]])["images"].dtype == np.uint8
        for image in IMAGES:
            assert_same_detections(arrays(detector(image)), arrays(other(image)))


def test_padded_artefacts_give_the_same_for_images_that_fill_the_canvas(
    export_tiny: Export, detector: Detector
) -> None:
    with Detector.load(export_tiny(padded=True).path) as padded:
        assert_same_detections(arrays(detector(IMAGES[0])), arrays(padded(IMAGES[0])))


def test_openvino_gives_the_same_detections(export_tiny: Export, detector: Detector) -> None:
    with Detector.load(export_tiny(inline_functions=True).path, backend="openvino") as other:
        assert other.describe()["backend"] == "openvino"
        for image in IMAGES:
            assert_same_detections(arrays(detector(image)), arrays(other(image)))
        with ThreadPoolExecutor(3) as pool:
            for found in pool.map(other, [IMAGES[0]] * 6):
                assert_same_detections(arrays(detector(IMAGES[0])), arrays(found))


def test_class_names_travel_with_the_file(dynamic_tiny: ExportResult) -> None:
    with Detector.load(dynamic_tiny.path) as detector:
        found = detector(IMAGES[0])
    assert found.class_names == NAMES
    assert found.names == [NAMES[label] for label in found.labels]
