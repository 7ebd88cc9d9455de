"""What engine to build. Everything that can be refused without looking at a graph is refused here."""

from __future__ import annotations

import dataclasses

from sparse_detr_deploy.engine_record import FLAVOURS
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.metadata import Metadata

TENSORRT, TENSORRT_RTX = FLAVOURS
TARGETS = ("sm80", "sm86", "sm89", "sm120", "sm121")  # what TensorRT-RTX builds these networks for
DEFAULT_TARGETS = ("sm89", "sm120")  # Ada and Blackwell: the GPUs that TensorRT-RTX is made for
_DATA_CENTRE = ("sm90", "sm100", "sm103")
MAX_TOPK = 3840  # TopK of TensorRT and of TensorRT-RTX refuses more
PRECISIONS = {"float32": "fp32", "float16": "fp16"}  # of the metadata, and as the command line names them


@dataclasses.dataclass(frozen=True)
class EngineSpec:
    """One way to build engines.

    Attributes:
        flavour: ``tensorrt`` or ``tensorrt-rtx``.
        targets: GPUs to build for, as ``sm89``; TensorRT-RTX only, default: sm89 and sm120. TensorRT builds for the
            GPU of this machine.
        workspace_mib: limit of the builder's workspace in MiB; ``None``: TensorRT's own.
        self_contained: put the plugin library into the engine; TensorRT only.
        allow_fallback: build from standard ops where the plugins are not taken; TensorRT only (TensorRT-RTX takes no
            plugins at all).
    """

    flavour: str
    targets: tuple[str, ...] = ()
    workspace_mib: int | None = None
    self_contained: bool = False
    allow_fallback: bool = False

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise InputError(f"the engine {self.flavour!r} is not one of {', '.join(FLAVOURS)}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise InputError(f"the workspace is {self.workspace_mib} MiB, but at least 1 is needed")
        if self.flavour == TENSORRT:
            if self.targets:
                raise InputError(
                    "TensorRT builds for the GPU of this machine, so it takes no --target: build on that GPU, or take "
                    "--engine tensorrt-rtx, which builds for others"
                )
            return
        if self.self_contained:
            raise InputError("--self-contained belongs to --engine tensorrt: TensorRT-RTX takes no plugins to put in")
        if self.allow_fallback:
            raise InputError("--allow-fallback belongs to --engine tensorrt: TensorRT-RTX takes standard ops always")
        for target in self.targets:
            _check_target(target)
        object.__setattr__(self, "targets", tuple(dict.fromkeys(self.targets)) or DEFAULT_TARGETS)

    @property
    def takes_plugins(self) -> bool:
        """Whether the flavour knows plugins; TensorRT-RTX ends the process when its parser meets one."""
        return self.flavour == TENSORRT

    def check_sizes(self, num_queries: int | None, num_detections: int | None) -> None:
        """Raise :class:`InputError` where an artefact cannot become such an engine.

        Args:
            num_queries: queries that are picked by TopK (two-stage models); ``None`` where they are not.
            num_detections: detections that are picked by TopK; ``None`` for raw outputs.
        """
        for count, name, mend in (
            (num_detections, "detections", "give fewer --num-detections, or --outputs raw"),
            (num_queries, "queries", "no engine can be built of this model"),
        ):
            if count is not None and count > MAX_TOPK:
                raise InputError(
                    f"{count} {name} are picked by a TopK, and TensorRT's takes at most {MAX_TOPK}: {mend}"
                )

    def check(self, metadata: Metadata) -> None:
        """:meth:`check_sizes` for an exported file, and whether it has a form that engines are made from."""
        name = metadata.name
        if metadata.precision not in PRECISIONS:
            raise InputError(f"{name} is {metadata.precision}, and engines are made of {', '.join(PRECISIONS)}")
        self.check_sizes(
            metadata.num_queries if metadata.model.get("two_stage") else None,
            metadata.num_detections if metadata.outputs == "detections" else None,
        )
        if metadata.inlined:
            raise InputError(
                f"{name} has its custom ops inlined, and an engine needs their calls: export without --inline-functions"
            )
        check_form(name, metadata.padded, metadata.dynamic_rho, metadata.batch)


def check_form(name: str, padded: bool, dynamic_rho: bool, batch: tuple[int, int, int]) -> None:
    """Raise :class:`InputError` where the number of tokens to keep would differ between the images of a run."""
    if padded and dynamic_rho and batch[2] > 1:
        raise InputError(
            f"{name}: with --padded and --rho dynamic each image of a batch keeps a number of its own, but TensorRT takes "
            "one number a run (a shape tensor of one element): build for --batch 1, leave --padded out, or fix --rho"
        )


def _check_target(target: str) -> None:
    if target in TARGETS:
        return
    if target in _DATA_CENTRE:
        raise InputError(
            f"TensorRT-RTX does not build for {target} (a data-centre GPU): take --engine tensorrt on that GPU"
        )
    if target == "sm75":
        raise InputError(
            "TensorRT-RTX has no float32 matrix products for sm75 (Turing), and half-precision graphs keep some as well: "
            "take --engine tensorrt on that GPU"
        )
    raise InputError(f"the target {target!r} is not one of {', '.join(TARGETS)}")
