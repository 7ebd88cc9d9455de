"""What takes part in a run: an artefact at one keep ratio. Checked before anything heavy is loaded."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.engine_record import read_sidecar
from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.tokens import check_keep_ratio


def is_engine(path: Path) -> bool:
    """Whether it is an engine of TensorRT or TensorRT-RTX, by its name."""
    return path.suffix == ".engine"


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Backend and its options, the same for every contender of a run.

    ``device``, ``cuda_graphs`` and ``allow_host_code`` are for engines, which bring their backend; the others are for
    ONNX files.
    """

    backend: str = "onnxruntime"
    provider: str = "cpu"
    threads: int | None = None
    device: int = 0
    cuda_graphs: bool = True
    allow_host_code: bool = False

    def __post_init__(self) -> None:
        if self.backend == "openvino" and self.provider != "cpu":
            raise InputError(f"the OpenVINO backend runs on the CPU only: leave --provider {self.provider} out")

    def open(self, path: Path) -> Detector:
        """A detector; raises what :meth:`Detector.load` raises."""
        if is_engine(path):
            return Detector.load(
                path, device=self.device, cuda_graphs=self.cuda_graphs, allow_host_code=self.allow_host_code
            )
        options: dict[str, Any] = {"num_threads": self.threads}
        if self.backend == "onnxruntime":
            options["providers"] = self.provider
        return Detector.load(path, self.backend, **options)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of a run.

    Attributes:
        name: of the file, without suffix; a number follows where several files have one name.
        path: the artefact.
        metadata: of the artefact.
        sha256: of the artefact.
        keep_ratio: what a dynamic artefact is asked for; ``None``: its own.
        batch: images of one call.
    """

    name: str
    path: Path
    metadata: Metadata
    sha256: str
    keep_ratio: float | None
    batch: int

    @property
    def rho(self) -> float | None:
        """The keep ratio at which it runs; ``None`` if dense."""
        return self.metadata.rho if self.keep_ratio is None else self.keep_ratio

    @property
    def title(self) -> str:
        """Name, and the keep ratio where the name does not tell it."""
        return f"{self.name} at ρ {self.rho:g}" if self.metadata.dynamic_rho else self.name


def line_up(paths: Sequence[Path], keep_ratios: Sequence[float] = (), batch: int | None = None) -> list[Contender]:
    """The contenders: one for each artefact; a dynamic one has one for each of ``keep_ratios`` instead.

    Args:
        paths: the artefacts.
        keep_ratios: ratios in (0, 1] for dynamic artefacts; default: the one that each was trained with.
        batch: images of one call; default: the usual batch of each artefact.

    Raises:
        ArtefactError: a file is missing, damaged or not ours.
        InputError: no artefact takes ``keep_ratios``, or one does not take ``batch``.
    """
    ratios = list(dict.fromkeys(check_keep_ratio(ratio) for ratio in keep_ratios))
    seen: Counter[str] = Counter()
    contenders = []
    for path in paths:
        metadata = read_sidecar(path)[0] if is_engine(path) else read_metadata(path)
        size = _batch(path, metadata, batch)
        seen[path.stem] += 1
        name = path.stem if seen[path.stem] == 1 else f"{path.stem} ({seen[path.stem]})"
        try:
            sha256 = sha256_of(path)
        except OSError as error:
            raise ArtefactError(f"{path} cannot be read ({error.strerror or error})") from None
        asked: list[float | None] = [*ratios] if metadata.dynamic_rho and ratios else [None]
        contenders += [Contender(name, path, metadata, sha256, ratio, size) for ratio in asked]
    if ratios and not any(contender.metadata.dynamic_rho for contender in contenders):
        raise InputError(
            "--keep-ratio is for artefacts with a dynamic ρ, but every artefact here is fixed: "
            "leave it out, or export with --rho dynamic"
        )
    return contenders


def _batch(path: Path, metadata: Metadata, batch: int | None) -> int:
    smallest, usual, largest = metadata.batch
    if batch is None:
        return usual
    if not smallest <= batch <= largest:
        takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        raise InputError(f"{path} takes batches of {takes}, not of {batch}: export it with --batch {batch}")
    return batch
