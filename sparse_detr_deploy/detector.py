"""The detector to embed in production code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from sparse_detr_deploy.arguments import check_score, check_whole
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.images import MAX_PIXELS, Image, ImageLike, check_image_like, load_image
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.postprocessing import finish
from sparse_detr_deploy.preprocessing import Feed, check_color, prepare
from sparse_detr_deploy.runners import Runner, open_runner
from sparse_detr_deploy.runners.device_arrays import is_device_array


class Detector:
    """An exported artefact that takes images and gives detections.

    >>> with Detector.load("r50_rho30_800x1066.onnx") as detector:
    ...     detections = detector("street.jpg")

    It may be called from several threads at once.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._open = True

    @classmethod
    def load(cls, path: str | Path, backend: str | None = None, *, verify: bool = False, **options: Any) -> Detector:
        """Open an artefact.

        Args:
            path: a file of ``sparse-detr-export``, ``.onnx`` or ``.engine``.
            backend: ``onnxruntime`` (default of ``.onnx``), ``openvino`` or ``tensorrt`` (default of ``.engine``).
            verify: compare the SHA-256 of an ``.onnx`` file with the digest in its metadata first, which reads the file
                once more: a flipped bit among the weights changes results and nothing else. The SHA-256 of an engine is
                always compared.
            options: of the backend, such as ``providers="cuda"``, ``num_threads=4`` or, for an engine, ``device=1`` and
                ``allow_host_code=True`` (for one that holds its plugin library: run what is in it on the CPU).

        Raises:
            ArtefactError: the file is missing, damaged, not ours, too new, or has no digest to ``verify``.
            BackendError: the backend is not installed or has not what is asked for, or an engine holds code for the CPU
                that is not allowed.
        """
        return cls(open_runner(path, backend, verify=verify, **options))

    def clone(self) -> Detector:
        """A detector on the same engine that works beside this one, for another thread; close both.

        Raises:
            BackendError: the backend has nothing to clone; its detectors run in parallel as they are.
        """
        clone = getattr(self.runner, "clone", None)
        if clone is None:
            backend = self.describe()["backend"]
            raise BackendError(
                f"{backend} runs one detector in several threads at once: share it instead of cloning it"
            )
        return Detector(clone())

    @property
    def metadata(self) -> Metadata:
        """What the artefact says of itself."""
        return self.runner.metadata

    def describe(self) -> dict[str, Any]:
        """Backend, version, provider, threads and kernels."""
        return self.runner.describe()

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a path is a sequence too, of characters
        self,
        images: ImageLike,
        *,
        color: str = ...,
        keep_ratio: float | None = ...,
        score_threshold: float = ...,
        max_pixels: int = ...,
    ) -> Detections: ...

    @overload
    def __call__(
        self,
        images: Sequence[ImageLike],
        *,
        color: str = ...,
        keep_ratio: float | None = ...,
        score_threshold: float = ...,
        max_pixels: int = ...,
    ) -> list[Detections]: ...

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        color: str = "bgr",
        keep_ratio: float | None = None,
        score_threshold: float = 0.0,
        max_pixels: int = MAX_PIXELS,
    ) -> Detections | list[Detections]:
        """Detect in one image or in a list of them (a list gives a list).

        Of a list, the images of one batch at a time are read; every entry is looked at before the first batch runs.

        Args:
            images: uint8 arrays [H, W, 3] or paths.
            color: order of the channels of arrays, ``bgr`` or ``rgb``; files are read as they should be.
            keep_ratio: share ρ of the tokens to refine, for artefacts with dynamic ρ; default: the trained one.
            score_threshold: leave out detections below it, in 0..1.
            max_pixels: how many pixels a file may have, see :func:`~sparse_detr_deploy.images.read_image`.

        Raises:
            InputError: an image or an argument is not usable; the message says which and why.
            BackendError: the backend failed, or an image gave numbers that are not finite.
        """
        if not self._open:
            raise BackendError("the detector is closed: load it again")
        check_color(color)
        check_score(score_threshold, "score_threshold")
        check_whole(max_pixels, "max_pixels", 1)
        self.metadata.num_keep(keep_ratio)  # refuses a ratio that the artefact cannot run at
        entries, alone = self._entries(images)
        for name, image in entries:
            with _naming(name, image):
                check_image_like(image, name)
        largest = self.metadata.batch[2]
        results: list[Detections] = []
        for start in range(0, len(entries), largest):
            results += self._detect(entries[start : start + largest], color, keep_ratio, max_pixels)
        if score_threshold > 0:
            results = [found.above(score_threshold) for found in results]
        return results[0] if alone else results

    @staticmethod
    def _entries(images: Any) -> tuple[list[tuple[str, Any]], bool]:
        """The images with names for messages, and whether it is one that is not in a list."""
        if isinstance(images, (np.ndarray, str, os.PathLike)):
            return [("the image", images)], True
        if is_device_array(images):
            raise InputError(
                "images lies on a GPU, but images are prepared on the host: give an array of the host, or prepare the batch "
                "on the GPU as metadata says, give it to detector.runner.run and its outputs to detector.postprocess"
            )
        if not isinstance(images, Sequence) or isinstance(images, (bytes, bytearray, memoryview)):
            raise InputError(f"images is a {type(images).__name__}: give an array, a path or a list of them")
        return [(f"image {index}", image) for index, image in enumerate(images)], False

    def _detect(
        self, entries: list[tuple[str, Any]], color: str, keep_ratio: float | None, max_pixels: int
    ) -> list[Detections]:
        """One batch of (name, image). What is decoded for it lives no longer than this call."""
        images = []
        for name, image in entries:
            with _naming(name, image):
                loaded = load_image(image, name, max_pixels)
            images.append(loaded[:, :, ::-1] if color == "rgb" and isinstance(image, np.ndarray) else loaded)
        # a batch below the smallest is filled with its last image, and what comes of that is dropped
        filled = images + [images[-1]] * max(0, self.metadata.batch[0] - len(images))
        outputs = self.runner.run(self.preprocess(filled, keep_ratio=keep_ratio))
        sizes = [image.shape[:2] for image in images]
        return finish(outputs, sizes, self.metadata, [_described(name, image) for name, image in entries])

    def preprocess(self, images: Sequence[Image], color: str = "bgr", keep_ratio: float | None = None) -> Feed:
        """The inputs of one batch, see :func:`~sparse_detr_deploy.preprocessing.prepare`."""
        return prepare(images, self.metadata, color, keep_ratio)

    def postprocess(self, outputs: Feed, image_sizes: Sequence[tuple[int, ...]]) -> list[Detections]:
        """Detections from the outputs of one batch and the original (h, w) of its images.

        See :func:`~sparse_detr_deploy.postprocessing.finish`.
        """
        return finish(outputs, image_sizes, self.metadata)

    def warmup(self, iterations: int = 2, keep_ratio: float | None = None) -> None:
        """Run on a blank image, so that the first real one does not pay for allocations."""
        blank = np.zeros((self.metadata.height, self.metadata.width, 3), dtype=np.uint8)
        for _ in range(check_whole(iterations, "iterations", 0)):
            self([blank] * self.metadata.batch[1], keep_ratio=keep_ratio)

    def close(self) -> None:
        """Free the backend. A closed detector raises :class:`BackendError` when called."""
        self._open = False
        self.runner.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _described(name: str, image: Any) -> str:
    """``name`` for a message, with the path where the image is a file."""
    return f"{name} ({os.fspath(image)})" if isinstance(image, (str, os.PathLike)) else name


@contextlib.contextmanager
def _naming(name: str, image: Any) -> Iterator[None]:
    """What is wrong with a file names the place in the list too."""
    try:
        yield
    except InputError as error:
        if isinstance(image, np.ndarray) or str(error).startswith(name) or name == "the image":
            raise
        raise InputError(f"{name}: {error}") from None
