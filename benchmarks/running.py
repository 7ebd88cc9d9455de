"""One run: contenders, memory, times, accuracy, report."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.accuracy import Accuracy, Annotations, import_pycocotools, measure_accuracy
from sparse_detr_deploy.benchmarks.contenders import Contender, Runtime, is_engine, line_up
from sparse_detr_deploy.benchmarks.engine_bench import EngineBench
from sparse_detr_deploy.benchmarks.engine_timing import DEFINITIONS, EngineResult
from sparse_detr_deploy.benchmarks.environment import describe_environment, load_average
from sparse_detr_deploy.benchmarks.inputs import Inputs, folder_inputs, read_inputs, synthetic_inputs
from sparse_detr_deploy.benchmarks.measuring import Samples, measure
from sparse_detr_deploy.benchmarks.memory import DEFINITION, DEVICE_DEFINITION, Peaks, peak_memory
from sparse_detr_deploy.benchmarks.results import Report, Row
from sparse_detr_deploy.benchmarks.timing import WINDOW_TOLERANCE
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.onnx_digest import check_digest
from sparse_detr_deploy.preprocessing import fitted_size

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """How to run.

    Attributes:
        keep_ratios: ratios in (0, 1] for dynamic artefacts; default: the one that each was trained with.
        runtime: backend, provider and threads.
        batch: images of one call; default: the usual batch of each artefact.
        warmup: rounds that are not counted.
        rounds: rounds that are.
        images: folder of images; default: synthetic ones.
        annotations: COCO file of images in that folder; without it no accuracy is measured.
        contexts: how many execution contexts of an engine run at once when its throughput is measured.
    """

    keep_ratios: tuple[float, ...] = ()
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    batch: int | None = None
    warmup: int = 2
    rounds: int = 20
    images: Path | None = None
    annotations: Path | None = None
    contexts: tuple[int, ...] = (1, 2, 4)

    def __post_init__(self) -> None:
        if self.annotations is not None and self.images is None:
            raise InputError("--annotations needs --images FOLDER, where the annotated images are")


def run(
    paths: Sequence[Path],
    settings: RunSettings,
    warn: Say = lambda text: None,
    progress: Say = lambda text: None,
    rescue: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Bench artefacts against each other.

    Args:
        paths: the artefacts, at least one.
        settings: how.
        warn: told what is left out and why.
        progress: told what is done.
        rescue: given a report of the times where the run is interrupted or fails after they were taken; ``left_out``
            says what was not measured.

    Raises:
        ArtefactError: a file is missing, damaged or not ours.
        InputError: a setting does not fit an artefact; the annotations or all the images are not usable.
        BackendError: the backend is missing or fails.
    """
    contenders = line_up(paths, settings.keep_ratios, settings.batch)
    _check_digests(contenders, warn)
    left_out: list[str] = []

    def leave_out(text: str) -> None:
        if text not in left_out:
            left_out.append(text)
            warn(f"left out: {text}")

    annotations, inputs = _inputs(settings, contenders[0], leave_out, warn)
    environment = {**describe_environment(), "load_average_start": load_average()}
    peaks = []
    for contender in contenders:
        progress(f"memory of {contender.title}")
        peaks.append(peak_memory(contender, settings.runtime))
    with contextlib.ExitStack() as stack:
        detectors: dict[Path, Detector] = {}
        for contender in contenders:
            if contender.path not in detectors:
                progress(f"loading {contender.name}")
                detectors[contender.path] = stack.enter_context(settings.runtime.open(contender.path))
        engines = EngineBench(contenders, detectors, warn)
        with engines.watching():
            samples = measure(
                contenders, detectors, inputs.images, settings.warmup, settings.rounds, progress, engines.counted
            )
        accuracies: Sequence[Accuracy | None] = [None] * len(contenders)
        sizes = [image.shape[:2] for image in inputs.images]

        def report() -> Report:
            rows = [
                _row(
                    contender,
                    detectors[contender.path].describe(),
                    times,
                    peak,
                    accuracy,
                    engines.result(position, times, peak.device),
                    sizes,
                )
                for position, (contender, times, peak, accuracy) in enumerate(
                    zip(contenders, samples, peaks, accuracies, strict=True)
                )
            ]
            described = _described(settings, inputs, annotations, any(row.engine for row in rows))
            return Report(rows, described, {**environment, "load_average_end": load_average()}, left_out)

        pending = "throughput" if annotations is None else "throughput and accuracy"
        try:
            engines.measure_throughput(inputs.images, settings.contexts, settings.rounds, progress)
            if annotations is not None:
                pending = "accuracy"
                accuracies = measure_accuracy(contenders, detectors, annotations, leave_out, progress, warn)
        except BaseException as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"stopped by an error ({error})"
            left_out.append(f"{why}: {pending} not measured")
            rescue(report())
            raise
        return report()


def _inputs(settings: RunSettings, first: Contender, leave_out: Say, warn: Say) -> tuple[Annotations | None, Inputs]:
    """Annotations where they are given, and the images to time on."""
    if settings.images is None:
        return None, synthetic_inputs(first.metadata.height, first.metadata.width)
    if settings.annotations is None:
        return None, folder_inputs(settings.images, leave_out)
    import_pycocotools()
    annotations = Annotations.read(settings.annotations, settings.images)
    if annotations.absent:
        warn(
            f"{annotations.absent} annotated images are not in {settings.images}; AP is of the {len(annotations.paths)} others"
        )
    if annotations.strays:
        warn(
            f"{annotations.strays} of the {len(annotations.dataset['annotations'])} annotated objects are of images or "
            f"categories that {settings.annotations} does not list: AP is without them"
        )
    return annotations, read_inputs(list(annotations.paths.values()), settings.images, leave_out)


def _row(
    contender: Contender,
    runtime: dict[str, Any],
    samples: Samples,
    peak: Peaks,
    accuracy: Accuracy | None,
    engine: EngineResult | None,
    image_sizes: Sequence[tuple[int, ...]],
) -> Row:
    metadata = contender.metadata
    # on a padded canvas an image keeps ρ of its own tokens
    counts = [metadata.num_keep(contender.keep_ratio, fitted_size(size, metadata)) or 0 for size in image_sizes]
    kept = sum(counts) / len(counts)
    return Row(
        name=contender.name,
        artefact=contender.path.name,
        sha256=contender.sha256,
        architecture=metadata.architecture,
        height=metadata.height,
        width=metadata.width,
        batch=contender.batch,
        rho=contender.rho,
        dynamic_rho=metadata.dynamic_rho,
        precision=metadata.precision,
        tokens=metadata.token_count,
        kept=metadata.token_count if metadata.rho is None else round(kept),
        gmacs=None if metadata.gmacs_fixed is None else metadata.gmacs_fixed + metadata.gmacs_per_kept_token * kept,
        runtime=runtime,
        samples_ms=samples,
        peak_memory_mib=peak.resident,
        accuracy=None if accuracy is None else accuracy.to_dict(),
        engine=engine,
    )


def _check_digests(contenders: Sequence[Contender], warn: Say) -> None:
    """Warn of files that are not as they were exported: damaged, or changed on purpose, as a quantiser does."""
    for path, metadata in {contender.path: contender.metadata for contender in contenders}.items():
        if not is_engine(path) and metadata.digest:  # of an engine it is checked where it is loaded
            try:
                check_digest(path)
            except ArtefactError as error:
                warn(str(error))


def _described(
    settings: RunSettings, inputs: Inputs, annotations: Annotations | None, engines: bool
) -> dict[str, object]:
    runtime = vars(settings.runtime)
    if not engines:
        runtime = {
            key: value for key, value in runtime.items() if key not in ("device", "cuda_graphs", "allow_host_code")
        }
    return {
        **runtime,
        "warmup": settings.warmup,
        "rounds": settings.rounds,
        "order": "round-robin, rotated each round; before each call that counts one of the same contender that does not",
        "images": inputs.source,
        "annotations": None if settings.annotations is None else settings.annotations.name,
        "annotations_sha256": None if annotations is None else annotations.sha256,
        "peak_memory": DEFINITION,
        **({"engine_stages": DEFINITIONS, "device_memory": DEVICE_DEFINITION} if engines else {}),
        "stability": f"medians of three consecutive windows within {100 * WINDOW_TOLERANCE:g} %",
        "gmacs": "10⁹ multiply-adds of one image, counted as in the Sparse DETR paper (1 GMAC = 2 GFLOPs); on a padded "
        "canvas, as the kept tokens, the mean over the images",
    }
