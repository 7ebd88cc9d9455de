"""The detector to embed in production code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.images import Image, ImageLike, load_image
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.postprocessing import finish
from sparse_detr_deploy.preprocessing import COLORS, Feed, prepare
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
        self, images: ImageLike, *, color: str = ..., keep_ratio: float | None = ..., score_threshold: float = ...
    ) -> Detections: ...

    @overload
    def __call__(
        self,
        images: Sequence[ImageLike],
        *,
        color: str = ...,
        keep_ratio: float | None = ...,
        score_threshold: float = ...,
    ) -> list[Detections]: ...

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        color: str = "bgr",
        keep_ratio: float | None = None,
        score_threshold: float = 0.0,
    ) -> Detections | list[Detections]:
        """Detect in one image or in a list of them (a list gives a list).

        Args:
            images: uint8 arrays [H, W, 3] or paths.
            color: order of the channels of arrays, ``bgr`` or ``rgb``; files are read as they should be.
            keep_ratio: share ρ of the tokens to refine, for artefacts with dynamic ρ; default: the trained one.
            score_threshold: leave out detections below it.

        Raises:
            InputError: an image, colour or ratio is not usable; the message says which and why.
        """
        if not self._open:
            raise BackendError("the detector is closed: load it again")
        if color not in COLORS:
            raise InputError(f"color {color!r} is not one of {', '.join(COLORS)}")
        self.metadata.num_keep(keep_ratio)  # refuses a ratio that the artefact cannot run at
        if isinstance(images, (np.ndarray, str, os.PathLike)):
            return self._detect([self._load(images, "the image", color)], keep_ratio, score_threshold)[0]
        if is_device_array(images):
            raise InputError(
                "images lies on a GPU, but images are prepared on the host: give an array of the host, or prepare the batch "
                "on the GPU as metadata says, give it to detector.runner.run and its outputs to detector.postprocess"
            )
        if not isinstance(images, Sequence) or isinstance(images, (bytes, bytearray, memoryview)):
            raise InputError(f"images is a {type(images).__name__}: give an array, a path or a list of them")
        loaded = [self._load(image, f"image {index}", color) for index, image in enumerate(images)]
        return self._detect(loaded, keep_ratio, score_threshold)

    @staticmethod
    def _load(image: ImageLike, name: str, color: str) -> Image:
        """The image in BGR order."""
        loaded = load_image(image, name)
        return loaded[:, :, ::-1] if color == "rgb" and isinstance(image, np.ndarray) else loaded

    def _detect(self, images: list[Image], keep_ratio: float | None, score_threshold: float) -> list[Detections]:
        smallest, _, largest = self.metadata.batch
        results: list[Detections] = []
        for start in range(0, len(images), largest):
            chunk = images[start : start + largest]
            # a batch below the smallest is filled with its last image, and what comes of that is dropped
            filled = chunk + [chunk[-1]] * max(0, smallest - len(chunk))
            outputs = self.runner.run(self.preprocess(filled, keep_ratio=keep_ratio))
            results += self.postprocess(outputs, [image.shape[:2] for image in chunk])
        return [found.above(score_threshold) for found in results] if score_threshold > 0 else results

    def preprocess(self, images: Sequence[Image], color: str = "bgr", keep_ratio: float | None = None) -> Feed:
        """The inputs of one batch, see :func:`~sparse_detr_deploy.preprocessing.prepare`."""
        return prepare(images, self.metadata, color, keep_ratio)

    def postprocess(self, outputs: Feed, image_sizes: Sequence[tuple[int, ...]]) -> list[Detections]:
        """Detections from the outputs of one batch and the original (h, w) of its images."""
        return finish(outputs, [(size[0], size[1]) for size in image_sizes], self.metadata)

    def warmup(self, iterations: int = 2, keep_ratio: float | None = None) -> None:
        """Run on a blank image, so that the first real one does not pay for allocations."""
        blank = np.zeros((self.metadata.height, self.metadata.width, 3), dtype=np.uint8)
        for _ in range(iterations):
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
