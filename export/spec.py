"""What to export: canvas, keep ratio, batch sizes and the form of inputs and outputs. Checked before any heavy work."""

from __future__ import annotations

import dataclasses
import re

from sparse_detr_deploy import limits
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.modeling.config import ModelConfig
from sparse_detr_deploy.tokens import LevelShapes, check_keep_ratio, num_tokens

OUTPUTS = ("detections", "raw")
PRECISIONS = {"fp32": "float32", "fp16": "float16"}  # and what the metadata call them
_LARGEST_FILE = 2**31 - 1
_GRAPH = 16 * 2**20  # bytes of nodes, functions and metadata: ten times what was seen


@dataclasses.dataclass(frozen=True)
class ExportSpec:
    """One artefact.

    Attributes:
        height: rows of the canvas in pixels.
        width: columns of the canvas in pixels.
        rho: keep ratio in (0, 1]; ``None`` for a dense encoder or with ``dynamic_rho``.
        dynamic_rho: one file for every keep ratio, with the input ``num_keep``.
        batch: smallest, usual and largest batch size.
        padded: images may be smaller than the canvas; adds the input ``image_sizes``.
        outputs: ``detections`` or ``raw``.
        num_detections: T, detections per image.
        uint8_input: take uint8 pixels and normalise inside the graph.
        inline_functions: expand the custom ops into standard ones, for runtimes without model-local functions.
        class_names: names by label.
        precision: ``fp32`` or ``fp16`` (half-precision weights and activations; inputs and outputs stay float32).
    """

    height: int
    width: int
    rho: float | None = None
    dynamic_rho: bool = False
    batch: tuple[int, int, int] = (1, 1, 1)
    padded: bool = False
    outputs: str = "detections"
    num_detections: int = 100
    uint8_input: bool = False
    inline_functions: bool = False
    class_names: tuple[str, ...] | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.rho is not None:
            check_keep_ratio(self.rho)
            if self.dynamic_rho:
                raise InputError("a dynamic artefact takes its keep ratio at run time: leave rho out")
        smallest, usual, largest = self.batch
        if not 1 <= smallest <= usual <= largest:
            raise InputError(
                f"the batch range {smallest}:{usual}:{largest} is out of order: give smallest:usual:largest, each at least 1"
            )
        if self.outputs not in OUTPUTS:
            raise InputError(f"outputs {self.outputs!r} is not one of {', '.join(OUTPUTS)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"the precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.num_detections < 1:
            raise InputError(f"num_detections is {self.num_detections}, but at least 1 is needed")
        self._check_limits()

    def _check_limits(self) -> None:
        """Refuse what readers of the file would refuse."""
        faults = [limits.canvas_fault(self.height, self.width, largest_batch=self.batch[2])]
        if self.num_detections > limits.MOST_DETECTIONS:
            faults.append(f"{self.num_detections} detections, but {limits.MOST_DETECTIONS:,} are possible")
        if self.class_names is not None:
            faults.append(limits.names_fault(self.class_names))
        for fault in faults:
            if fault is not None:
                raise InputError(f"no artefact has {fault}: ask for less")

    def check_against(self, config: ModelConfig, level_shapes: LevelShapes | None = None, parameters: int = 0) -> None:
        """Raise :class:`InputError` where a model of ``config`` with so many ``parameters`` cannot be exported so."""
        for name, most in (("num_queries", limits.MOST_QUERIES), ("num_classes", limits.MOST_CLASSES)):
            if getattr(config, name) > most:
                raise InputError(f"the model has {name} = {getattr(config, name)}, but artefacts have {most:,} at most")
        if not config.is_sparse and (self.rho is not None or self.dynamic_rho):
            raise InputError(
                "the checkpoint has a dense encoder (no scoring network), so there is no ρ: leave --rho out"
            )
        if config.is_sparse and self.rho is None and not self.dynamic_rho:
            raise InputError("the checkpoint is sparse: give a ρ in (0, 1] or 'dynamic' (1 refines every token)")
        if self.num_detections > config.num_queries * config.num_classes:
            raise InputError(
                f"{self.num_detections} detections are more than {config.num_queries} queries × {config.num_classes} classes give"
            )
        if self.class_names is not None and len(self.class_names) != config.num_classes:
            raise InputError(
                f"{len(self.class_names)} class names, but the model has {config.num_classes} classes (one name for each label, from 0)"
            )
        if min(self.height, self.width) < 32:
            raise InputError(
                f"a canvas of {self.height}×{self.width} is too small for {config.num_feature_levels} levels: each side needs 32 pixels or more"
            )
        self._check_size(config, level_shapes, parameters)
        if level_shapes is not None and config.two_stage and num_tokens(level_shapes) < config.num_queries:
            raise InputError(
                f"a canvas of {self.height}×{self.width} has {num_tokens(level_shapes)} tokens, fewer than the {config.num_queries} "
                "queries that a two-stage model takes from them: use a larger size"
            )

    def _check_size(self, config: ModelConfig, level_shapes: LevelShapes | None, parameters: int) -> None:
        """Weights, and without padding the geometry of each token: embedding, proposal, centre and two more numbers."""
        if level_shapes is not None:
            tokens = num_tokens(level_shapes)
        else:  # at least so many: those of the finest level
            tokens = self.height * self.width // (1024 if config.num_feature_levels == 1 else 64)
        half = self.precision == "fp16"
        a_token = 2 * (config.hidden_dim + 1) + 4 * 6 if half else 4 * (config.hidden_dim + 7)
        weights, constants = parameters * (2 if half else 4), 0 if self.padded else tokens * a_token
        if constants and weights + constants + _GRAPH > _LARGEST_FILE:
            raise InputError(
                f"a canvas of {self.height}×{self.width} is too large: the constants of its {tokens} tokens take "
                f"{constants / 1e9:.2f} GB beside {weights / 1e9:.2f} GB of weights, and an ONNX file holds "
                f"{_LARGEST_FILE / 1e9:.2f} GB: use a smaller size, or --padded, whose files do without them"
            )


def artefact_name(config: ModelConfig, spec: ExportSpec) -> str:
    """File name without suffix: ``r50_rho10_800x1066``, ``r50_dense_…``, ``r50_rhodyn_…``; what differs from the usual follows."""
    if spec.dynamic_rho:
        ratio = "rhodyn"
    elif spec.rho is None:
        ratio = "dense"
    else:
        percent = f"{100 * spec.rho:.6g}"
        ratio = "rho" + (percent.zfill(2) if percent.isdigit() else percent)
    parts = [config.short_name, ratio, f"{spec.height}x{spec.width}"]
    if spec.batch != (1, 1, 1):
        smallest, _, largest = spec.batch
        parts.append(f"b{smallest}" if smallest == largest else f"b{smallest}-{largest}")
    parts += [
        name
        for name, present in (
            ("padded", spec.padded),
            ("raw", spec.outputs == "raw"),
            ("uint8", spec.uint8_input),
            ("inlined", spec.inline_functions),
            ("fp16", spec.precision == "fp16"),
        )
        if present
    ]
    return "_".join(parts)


def parse_rho(text: str) -> float | None:
    """``dynamic`` gives ``None``; anything else must be a number in (0, 1]."""
    if text == "dynamic":
        return None
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"ρ {text!r} is neither a number in (0, 1] nor 'dynamic'") from None
    return check_keep_ratio(value)


def parse_size(text: str) -> tuple[int, int]:
    """``800x1066`` gives (height, width)."""
    match = re.fullmatch(r"([0-9]{1,9})[x×]([0-9]{1,9})", text.strip())
    if match is None or 0 in map(int, match.groups()):
        raise InputError(f"the size {text!r} is not HEIGHTxWIDTH in pixels, such as 800x1066")
    return int(match[1]), int(match[2])


def parse_batch(text: str) -> tuple[int, int, int]:
    """``4`` or ``1:4:8`` (smallest:usual:largest)."""
    parts = text.split(":")
    numbers = (
        [int(part) for part in parts] if all(re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", part) for part in parts) else []
    )
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise InputError(f"the batch {text!r} is neither a number nor smallest:usual:largest, such as 1:4:8")
    smallest, usual, largest = numbers
    if not 1 <= smallest <= usual <= largest:
        raise InputError(f"the batch range {text} is out of order: give smallest:usual:largest, each at least 1")
    return smallest, usual, largest
