"""Verification of an artefact against the PyTorch module, before it is published."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx

from sparse_detr_deploy.errors import ArtefactError, OutputError, VerificationError
from sparse_detr_deploy.export.comparison import VerificationReport, compare
from sparse_detr_deploy.export.graph import add_probe_outputs, inline_functions
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.images import Image, list_images, readable_images
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.preprocessing import prepare
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner
from sparse_detr_deploy.synthetic_image import synthetic_image

MOST_IMAGES = 16


def verify(
    model: SparseDETR,
    spec: ExportSpec,
    proto: onnx.ModelProto,
    metadata: Metadata,
    images: Sequence[Image] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> VerificationReport:
    """Compare ``proto`` with ``model`` at every promised batch, at the usual one on every image.

    The file is run with the function bodies and, where they are built, with the fused kernels; with
    ``spec.inline_functions`` its expansion into standard ops is run instead, because that is what is published.

    Args:
        model: the module that was exported.
        spec: what was exported.
        proto: the exported graph, before custom ops are inlined.
        metadata: of the artefact.
        images: uint8 BGR images to compare on; default: synthetic ones.
        progress: told what is compared.

    Raises:
        VerificationError: a difference beyond the tolerances; the message names the worst offender.
        OutputError: there is no space for temporary files.
    """
    report = VerificationReport()
    ratios = _keep_ratios(model, spec)
    with _probed_file(proto, spec) as path:
        for native in (False,) if spec.inline_functions else (False, True):
            with _opened(path, native, metadata.name) as runner:
                kernels = "inlined" if spec.inline_functions else str(runner.describe()["custom_ops"])
                if native and kernels != "native":
                    continue
                report.kernels.append(kernels)
                for batch, ratio in itertools.product(sorted(set(spec.batch)), ratios):
                    shown = f"batch {batch}{'' if ratio is None else f', ρ {ratio:g}'}, {kernels}"
                    progress(shown)
                    for group in _groups(spec, batch, images):
                        feed = prepare(group, metadata, keep_ratio=ratio if metadata.dynamic_rho else None)
                        found = runner.run(feed)
                        compare(model, metadata, feed, ratio, found, report, f"{metadata.name}, {shown}")
                        report.images += batch
    report.batches = sorted(set(spec.batch))
    report.keep_ratios = [ratio for ratio in ratios if ratio is not None]
    return report


@contextlib.contextmanager
def _probed_file(proto: onnx.ModelProto, spec: ExportSpec) -> Iterator[Path]:
    """A temporary file of the graph with its selections as further outputs."""
    probed = add_probe_outputs(proto)
    if spec.inline_functions:
        probed = inline_functions(probed)
    with tempfile.TemporaryDirectory(prefix="sparse-detr-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "probed.onnx"
        try:
            path.write_bytes(probed.SerializeToString())
        except OSError as error:
            raise OutputError(
                f"the verification needs {probed.ByteSize() / 1e6:.0f} MB in {folder}, and it cannot be written to "
                f"({error.strerror}): free some space, or name another folder by the environment variable TMPDIR"
            ) from None
        yield path


@contextlib.contextmanager
def _opened(path: Path, native: bool, name: str) -> Iterator[OnnxRuntimeRunner]:
    try:
        runner = OnnxRuntimeRunner(path, native=native)
    except ArtefactError as error:
        raise VerificationError(f"{name}: ONNX Runtime does not load it: {error}") from None
    try:
        yield runner
    finally:
        runner.close()


def _keep_ratios(model: SparseDETR, spec: ExportSpec) -> list[float | None]:
    if not model.config.is_sparse:
        return [None]
    return list(dict.fromkeys([0.1, model.config.rho, 1.0])) if spec.dynamic_rho else [spec.rho]


def _groups(spec: ExportSpec, batch: int, images: Sequence[Image] | None) -> Iterator[list[Image]]:
    """Groups of ``batch`` images: all of ``images`` at the usual batch and one group at another, or synthetic ones."""
    if images is None:
        images = _synthetic_images(spec, batch)
    elif batch != spec.batch[1]:
        images = images[:batch]
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
