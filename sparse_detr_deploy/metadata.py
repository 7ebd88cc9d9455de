"""What an artefact says of itself: one JSON document that travels with every exported file.

In ONNX it is the ``metadata_props`` entry ``sparse_detr_deploy``; beside an engine it is the file ``<engine>.json``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from sparse_detr_deploy.arguments import as_number
from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.limits import MOST_METADATA_BYTES
from sparse_detr_deploy.metadata_check import is_count, is_text, metadata_faults
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.short_repr import short_repr
from sparse_detr_deploy.tokens import LevelShapes, num_keep, num_tokens, valid_level_shapes

METADATA_KEY = "sparse_detr_deploy"
SCHEMA_VERSION = 1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """One artefact. Field names are the JSON keys.

    ``rho`` is the keep ratio of a fixed artefact, the trained ratio (the default) of a ``dynamic_rho`` one and ``None``
    for a dense encoder. ``batch`` is (min, opt, max). ``input_dtype`` is ``float32`` (RGB, normalised with ``mean`` and
    ``std`` of the 0..1 scale) or ``uint8`` (RGB, normalised inside the graph). ``outputs`` is ``detections`` (boxes
    x1, y1, x2, y2 in 0..1 of the image; scores; labels) or ``raw`` (pred_logits; pred_boxes cx, cy, w, h).
    ``inlined`` says that the custom ops are expanded into standard ones. ``gmacs_fixed`` and ``gmacs_per_kept_token``
    are 10⁹ multiply-adds of one image, counted as in the Sparse DETR paper; :meth:`gmacs` adds them up. ``digest`` is of
    the exported ONNX file, see :mod:`~sparse_detr_deploy.onnx_digest`; empty in files of versions that wrote none.
    """

    name: str
    architecture: str
    model: dict[str, Any]
    height: int
    width: int
    level_shapes: LevelShapes
    batch: tuple[int, int, int] = (1, 1, 1)
    rho: float | None = None
    dynamic_rho: bool = False
    padded: bool = False
    input_dtype: str = "float32"
    color: str = "rgb"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    outputs: str = "detections"
    num_detections: int = 100
    num_queries: int = 300
    num_classes: int = 91
    class_names: tuple[str, ...] | None = None
    precision: str = "float32"
    opset: int = 20
    inlined: bool = False
    custom_ops: dict[str, int] = dataclasses.field(default_factory=dict)
    checkpoint: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    verification: dict[str, Any] = dataclasses.field(default_factory=dict)
    gmacs_fixed: float | None = None
    gmacs_per_kept_token: float = 0.0
    toolkit_version: str = ""
    digest: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def token_count(self) -> int:
        """Tokens of all levels of one image."""
        return num_tokens(self.level_shapes)

    def num_keep(self, keep_ratio: float | None = None, image_size: tuple[int, int] | None = None) -> int | None:
        """Tokens that the encoder refines for an image of ``image_size`` (h, w) on the canvas; ``None`` if dense.

        ``keep_ratio`` defaults to the artefact's; another value raises :class:`InputError` unless ``dynamic_rho``.
        """
        if self.rho is None:
            if keep_ratio is not None:
                raise InputError(f"{self.name} has a dense encoder: it takes no keep ratio")
            return None
        if keep_ratio is not None and not self.dynamic_rho and as_number(keep_ratio) != self.rho:
            raise InputError(
                f"{self.name} is fixed at ρ = {self.rho:g} and cannot run at {short_repr(keep_ratio)}: "
                "export with --rho dynamic for one file that runs at every ρ"
            )
        valid = self.token_count
        if image_size is not None:
            valid = num_tokens(valid_level_shapes(image_size, (self.height, self.width), self.level_shapes))
        return num_keep(valid, self.rho if keep_ratio is None else keep_ratio, self.token_count)

    def gmacs(self, keep_ratio: float | None = None) -> float | None:
        """10⁹ multiply-adds of one image that fills the canvas, at ``keep_ratio`` as in :meth:`num_keep`.

        ``None`` where the artefact does not say.
        """
        kept = self.num_keep(keep_ratio) or 0
        return None if self.gmacs_fixed is None else self.gmacs_fixed + self.gmacs_per_kept_token * kept

    def to_dict(self) -> dict[str, Any]:
        """The JSON document as plain values: all fields, and what follows from them for readers without this class.

        ``num_keep`` is k of an image that fills the canvas, at ``rho``. ``resize`` is ``fit`` (the aspect kept, at the
        top left, zeros around it) or ``stretch``.
        """
        return {
            **dataclasses.asdict(self),
            "token_count": self.token_count,
            "num_keep": self.num_keep(),
            "resize": "fit" if self.padded else "stretch",
            "box_format": "x1, y1, x2, y2 in 0..1" if self.outputs == "detections" else "cx, cy, w, h in 0..1",
        }

    def to_json(self) -> str:
        """The JSON document."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, source: str = "the artefact") -> Metadata:
        """Read the JSON document; ``source`` names the file in messages. Raises :class:`ArtefactError`."""
        if len(text) > MOST_METADATA_BYTES:
            raise ArtefactError(f"{source}: its metadata is larger than {MOST_METADATA_BYTES:,} bytes; export it again")
        try:
            values = parse_json(text)
            _check_unicode(values)
        except ValueError as error:
            raise ArtefactError(f"{source}: its metadata is not JSON ({error}); export it again") from None
        if not isinstance(values, Mapping) or not is_count(values.get("schema_version")):
            raise ArtefactError(f"{source}: its metadata has no schema_version; export it again")
        if values["schema_version"] > SCHEMA_VERSION:
            writer = values.get("toolkit_version")
            raise ArtefactError(
                f"{source} has metadata of schema {values['schema_version']}, written by sparse-detr-deploy "
                f"{writer if is_text(writer) else '?'}; this version reads up to {SCHEMA_VERSION}: upgrade sparse-detr-deploy"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        taken = {key: _tuples(value) for key, value in values.items() if key in known}
        try:
            metadata = cls(**taken)
        except TypeError as error:
            raise ArtefactError(f"{source}: its metadata is incomplete ({error}); export it again") from None
        wrong = metadata_faults(metadata)
        if wrong:
            raise ArtefactError(f"{source}: its metadata is damaged ({'; '.join(wrong)}); export it again")
        return metadata


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _check_unicode(values: object) -> None:
    """JSON may escape half of a surrogate pair, which no file or terminal takes."""
    try:
        json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair in a text") from None
