"""One artefact after another: export, verify, publish."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from sparse_detr_deploy.errors import BackendError, InputError, SparseDetrError
from sparse_detr_deploy.export.graph import describe, export_onnx, inline_functions, set_metadata
from sparse_detr_deploy.export.publish import check_output, publish
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name
from sparse_detr_deploy.export.verification import verify, verify_file
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.images import Image
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.onnx_digest import PLACEHOLDER, check_digest, seal
from sparse_detr_deploy.quiet_imports import import_onnxruntime

Progress = Callable[[str], None]
onnxruntime = import_onnxruntime()


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """A published artefact."""

    path: Path
    metadata: Metadata
    verification: VerificationReport
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``: where the file is, and its metadata."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "bytes": self.path.stat().st_size,
            **self.metadata.to_dict(),
        }


def export_artefacts(
    model: SparseDETR,
    specs: Sequence[ExportSpec],
    output: Path,
    overwrite: bool = False,
    images: Sequence[Image] | None = None,
    progress: Progress = lambda message: None,
    published: Callable[[ExportResult], None] = lambda result: None,
) -> list[ExportResult]:
    """Export ``model`` once for each of ``specs`` into the folder ``output``.

    Everything that can be refused is refused before the first export. An artefact appears only after it was verified;
    ``published`` is told each one then, because the next may fail.

    Raises:
        InputError: a specification does not fit the model.
        OutputError: the folder is not writable, or an artefact is there and ``overwrite`` is not given.
        VerificationError: an artefact differs from the module; it is not published.
        BackendError: PyTorch, ONNX or ONNX Runtime fails.
    """
    names: list[str] = []
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for spec in specs:
        spec.check_against(model.config, model.level_shapes(spec.height, spec.width), parameters)
        names.append(artefact_name(model.config, spec))
        if names[-1] in names[:-1]:
            raise InputError(f"two of the files would have the name {names[-1]}.onnx: export them to different folders")
    for name in names:
        check_output(output / f"{name}.onnx", overwrite)
    results: list[ExportResult] = []
    for spec in specs:
        results.append(_export(model, spec, output, overwrite, images, progress))
        published(results[-1])
    return results


def _export(
    model: SparseDETR,
    spec: ExportSpec,
    output: Path,
    overwrite: bool,
    images: Sequence[Image] | None,
    progress: Progress,
) -> ExportResult:
    name = artefact_name(model.config, spec)
    progress(f"{name}: exporting")
    callable_spec = dataclasses.replace(spec, inline_functions=False)
    proto = _exported(model, callable_spec, name)
    metadata = describe(model, callable_spec)
    report, run = verify(model, spec, proto, metadata, images, lambda what: progress(f"{name}: verifying, {what}"))
    progress(f"{name}: writing")
    if spec.inline_functions:
        proto = inline_functions(proto)
        _check(proto, name)
    metadata = describe(model, spec)
    versions = {**metadata.versions, "onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
    metadata = dataclasses.replace(metadata, verification=report.to_dict(), versions=versions, digest=PLACEHOLDER)
    set_metadata(proto, metadata)
    path = output / f"{name}.onnx"
    with publish(path, overwrite) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        metadata = dataclasses.replace(metadata, digest=seal(temporary))
        check_digest(temporary)
        verify_file(temporary, model, metadata, run)
    return ExportResult(path, metadata, report, sha256_of(path))


def _exported(model: SparseDETR, spec: ExportSpec, name: str) -> onnx.ModelProto:
    try:
        proto = export_onnx(model, spec)
    except SparseDetrError:
        raise
    except Exception as error:  # torch.export and its passes raise errors of many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise BackendError(
            f"{name}: PyTorch {torch.__version__} cannot export it ({reason}); is there enough memory, and is this "
            "version among those that the toolkit is tested with?"
        ) from error
    _check(proto, name)
    return proto


def _check(proto: onnx.ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise BackendError(f"{name}: the exported graph is not valid ONNX ({str(error).strip()})") from error
