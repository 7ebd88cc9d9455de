"""The detector, as an application uses it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparse_detr_deploy import BackendError, Detections, Detector, InputError
from sparse_detr_deploy.export.pipeline import ExportResult
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


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0].astype(np.float32), "the image is float32"),
        (IMAGES[0][:, :, 0], "grey"),
        (np.zeros((5, 5, 4), dtype=np.uint8), "alpha"),
        (np.zeros((0, 5, 3), dtype=np.uint8), "no pixels"),
        (np.stack([IMAGES[0]] * 2), "a batch is a list of images"),
        ([IMAGES[0], IMAGES[0][:, :, 0]], "image 1 .*grey"),
        ([IMAGES[0], None], "image 1 is a NoneType"),
        ([IMAGES[0], "nowhere.jpg"], "nowhere.jpg cannot be read"),
        (None, "images is a NoneType"),
        (3, "images is a int"),
        (b"bytes", "images is a bytes"),
        ((image for image in IMAGES), "images is a generator"),
    ],
)
def test_images_that_are_refused(detector: Detector, images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector(images)  # type: ignore[call-overload]


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


@pytest.mark.parametrize("ratio", [0.5, 0, -1, 1.5, float("nan"), "abc"])
def test_keep_ratio_on_a_fixed_artefact(detector: Detector, ratio: float) -> None:
    for images in (IMAGES[0], []):
        with pytest.raises(InputError, match="fixed at ρ = 0.3"):
            detector(images, keep_ratio=ratio)
    assert len(detector(IMAGES[0], keep_ratio=0.3)) == 20


def test_keep_ratio_on_a_dynamic_artefact(dynamic_tiny: ExportResult, tiny_model: SparseDETR) -> None:
    with Detector.load(dynamic_tiny.path) as detector:
        for ratio in (0.01, 0.1, 0.77, 1.0):
            expected = by_the_module(tiny_model, IMAGES[0], False, ratio)
            assert_same_detections(arrays(expected), arrays(detector(IMAGES[0], keep_ratio=ratio)))
        assert_same_detections(arrays(by_the_module(tiny_model, IMAGES[0], False)), arrays(detector(IMAGES[0])))
        for ratio in (0, -1, 1.5, float("nan"), "abc"):
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
    assert detector.metadata.name == "r50_rho30_96x128"


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
