"""Verification of an artefact against the PyTorch module, before it is published."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx

from sparse_detr_deploy.errors import ArtefactError, OutputError, VerificationError
from sparse_detr_deploy.export.comparison import compare
from sparse_detr_deploy.export.graph import add_probe_outputs, inline_functions
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.images import Image, list_images, readable_images
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.preprocessing import Feed, prepare
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner
from sparse_detr_deploy.synthetic_image import synthetic_image

MOST_IMAGES = 16
MOST_BATCHES = 8


@dataclasses.dataclass(frozen=True)
class ProbedRun:
    """One run of the verified graph: its inputs, and its outputs with the selections among them."""

    feed: Feed
    keep_ratio: float | None
    found: Feed


def verify(
    model: SparseDETR,
    spec: ExportSpec,
    proto: onnx.ModelProto,
    metadata: Metadata,
    images: Sequence[Image] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> tuple[VerificationReport, ProbedRun]:
    """Compare ``proto`` with ``model`` at the batches of :func:`batches_to_verify`, at the usual one on every image.

    The file is run with the function bodies and, where they are built, with the fused kernels; with
    ``spec.inline_functions`` its expansion into standard ops is run instead. What is run has the selections as further
    outputs, so the file that is published, without them, is left to :func:`verify_file`.

    Args:
        model: the module that was exported.
        spec: what was exported.
        proto: the exported graph, before custom ops are inlined.
        metadata: of the artefact.
        images: uint8 BGR images to compare on; default: synthetic ones.
        progress: told what is compared.

    Returns:
        What was compared, and the first run.

    Raises:
        VerificationError: a difference beyond the tolerances; the message names the worst offender.
        OutputError: there is no space for temporary files.
        BackendError: ONNX Runtime or PyTorch cannot run it, such as for want of memory.
    """
    batches, ratios = batches_to_verify(spec.batch), _keep_ratios(model, spec)
    report = VerificationReport(batches=batches, keep_ratios=[ratio for ratio in ratios if ratio is not None])
    first: ProbedRun | None = None
    with _probed_file(proto, spec) as path:
        for native in (False,) if spec.inline_functions else (False, True):
            with _opened(path, native, metadata.name) as runner:
                kernels = "inlined" if spec.inline_functions else str(runner.describe()["custom_ops"])
                if native and kernels != "native":
                    continue
                report.kernels.append(kernels)
                for batch, ratio in itertools.product(batches, ratios):
                    shown = f"batch {batch}{'' if ratio is None else f', ρ {ratio:g}'}, {kernels}"
                    progress(shown)
                    chosen = _images_of(spec, batch, images)
                    report.images = max(report.images, len(chosen))  # each batch has the first of the same images
                    for group in _groups(chosen, batch):
                        feed = prepare(group, metadata, keep_ratio=ratio if metadata.dynamic_rho else None)
                        found = runner.run(feed)
                        compare(model, metadata, feed, ratio, found, report, f"{metadata.name}, {shown}")
                        first = first or ProbedRun(feed, ratio, found)
    assert first is not None
    return report, first


def verify_file(path: Path, model: SparseDETR, metadata: Metadata, run: ProbedRun) -> None:
    """Run the file that is to be published on the inputs of ``run``, whose selections it must share, and compare.

    Raises:
        VerificationError: it does not load, has other outputs, or a difference beyond the tolerances.
    """
    where = f"{metadata.name}, the file to be published"
    probes = {name: array for name, array in run.found.items() if name.startswith("probe_")}
    with _opened(path, False, where) as runner:
        found = runner.run(run.feed)
    if found.keys() != run.found.keys() - probes.keys():
        raise VerificationError(f"{where}: its outputs are {', '.join(found)}; nothing was published; report it")
    compare(model, metadata, run.feed, run.keep_ratio, {**probes, **found}, VerificationReport(), where)


def batches_to_verify(batch: tuple[int, int, int]) -> list[int]:
    """Every batch from the smallest to the largest; of more than eight, eight: these, the usual one and a spread."""
    smallest, usual, largest = batch
    steps = MOST_BATCHES - 1
    if largest - smallest <= steps:
        return list(range(smallest, largest + 1))
    spread = [smallest + round(step * (largest - smallest) / steps) for step in range(MOST_BATCHES)]
    if usual not in spread:
        nearest = min(range(1, steps), key=lambda index: abs(spread[index] - usual))
        spread[nearest] = usual
    return spread


@contextlib.contextmanager
def _probed_file(proto: onnx.ModelProto, spec: ExportSpec) -> Iterator[Path]:
    """A temporary file of the graph with its selections as further outputs."""
    probed = add_probe_outputs(proto)
    if spec.inline_functions:
        probed = inline_functions(probed)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sparse-detr-", ignore_cleanup_errors=True))
            path = Path(folder) / "probed.onnx"
            path.write_bytes(probed.SerializeToString())
        except OSError as error:
            raise OutputError(
                f"the verification needs {probed.ByteSize() / 1e6:.0f} MB for a temporary file, and it cannot be "
                f"written ({error}): free some space, or name another folder by the environment variable TMPDIR"
            ) from None
        yield path


@contextlib.contextmanager
def _opened(path: Path, native: bool, name: str) -> Iterator[OnnxRuntimeRunner]:
    try:
        runner = OnnxRuntimeRunner(path, native=native)
    except ArtefactError as error:
        raise VerificationError(
            f"{name}: ONNX Runtime does not load it, so nothing was published; is this version among those that the "
            f"toolkit is tested with? {error}"
        ) from None
    try:
        yield runner
    finally:
        runner.close()


def _keep_ratios(model: SparseDETR, spec: ExportSpec) -> list[float | None]:
    if not model.config.is_sparse:
        return [None]
    return list(dict.fromkeys([0.1, model.config.rho, 1.0])) if spec.dynamic_rho else [spec.rho]


def _images_of(spec: ExportSpec, batch: int, images: Sequence[Image] | None) -> Sequence[Image]:
    """All of ``images`` at the usual batch and one group at another, or synthetic ones."""
    if images is None:
        return _synthetic_images(spec, batch)
    return images if batch == spec.batch[1] else images[:batch]


def _groups(images: Sequence[Image], batch: int) -> Iterator[list[Image]]:
    """Groups of ``batch`` of ``images``; the last is filled with the first ones."""
    for start in range(0, len(images), batch):
        yield [images[(start + offset) % len(images)] for offset in range(batch)]


def _synthetic_images(spec: ExportSpec, count: int) -> list[Image]:
    """``count`` images; for a padded artefact at least three: lower than the canvas, narrower, and filling it."""
    shares = [(0.8, 1.0), (1.0, 0.7), (1.0, 1.0)] if spec.padded else [(1.0, 1.0)]
    sizes = [
        (max(1, int(spec.height * rows)), max(1, int(spec.width * columns)))
        for rows, columns in itertools.islice(itertools.cycle(shares), max(count, len(shares)))
    ]
    return [synthetic_image(seed, height, width) for seed, (height, width) in enumerate(sizes)]


def read_verification_images(folder: Path, on_error: Callable[[str], None]) -> list[Image]:
    """The first 16 readable images of ``folder``; unreadable ones are told to ``on_error`` and left out."""
    readable = (image for _, image in readable_images(list_images(folder), on_error))
    return list(itertools.islice(readable, MOST_IMAGES))
