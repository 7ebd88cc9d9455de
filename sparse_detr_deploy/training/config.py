"""The TOML file of a training run."""

from __future__ import annotations

import dataclasses
import math
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sparse_detr_deploy.errors import CheckpointError, InputError
from sparse_detr_deploy.export.inference import check_limits
from sparse_detr_deploy.modeling import ModelConfig
from sparse_detr_deploy.plain_values import check_plain
from sparse_detr_deploy.regular_files import read_text
from sparse_detr_deploy.training.digits import CLASS_NAMES
from sparse_detr_deploy.training.scenes import SceneSpec

SALIENCIES = ("dam", "objectness")
DEVICES = ("cpu", "cuda")
PASS_STRIDES = (7, 11, 13, 17, 19, 23, 29, 31, 37)
_MOST_BYTES = 1 << 20
_Section = TypeVar("_Section")


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """Steps of one phase and their learning rate: linear warm-up, constant, cosine to zero over the last part.

    ``train_images`` is the number of scenes of its training set: a multiple of the run's ``workers``, and none of
    ``PASS_STRIDES`` divides it.
    """

    steps: int
    train_images: int = 16000
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 200
    decay_share: float = 0.3
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or self.warm_up < 0:
            raise InputError("steps and warm_up must not be negative, and batch_size must be 1 or more")
        for name, most in (("steps", 10**9), ("batch_size", 2**16), ("train_images", 10**9)):
            if getattr(self, name) > most:
                raise InputError(f"{name} is {getattr(self, name)}, but it is at most {most}")
        for name, least in (("learning_rate", 0.0), ("clip_norm", 0.0)):
            if not least < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}, but a number above 0 is needed")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay is {self.weight_decay}, but it must not be negative")
        if self.train_images < 1 or any(self.train_images % stride == 0 for stride in PASS_STRIDES):
            raise InputError(
                f"train_images is {self.train_images}, but a number is needed that none of "
                f"{', '.join(map(str, PASS_STRIDES))} divides: each pass goes through the scenes with one of these strides"
            )
        if not 0 <= self.decay_share <= 1:
            raise InputError(f"decay_share is {self.decay_share}, but it is the share of the steps that decay: 0 to 1")
        if 0 < self.steps < self.warm_up:
            raise InputError(f"warm_up is {self.warm_up} of {self.steps} steps: the learning rate is never reached")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        model: the architecture.
        scenes: what the training and validation images are like.
        training: the phase that trains the whole detector.
        pretraining: a phase before it that trains the backbone and the first stage alone, densely; 0 steps: none.
        classes_first: steps of the pretraining that learn only to tell the classes apart. Whether a run needs them
            has not been measured.
        seed: of the weights and of the scenes.
        saliency: what selects the encoder's tokens: ``dam`` (the scoring network, learnt from the decoder's attention)
            or ``objectness`` (OS: the best class score of a detection head on the backbone's tokens).
        ema_decay: of the averaged weights that are evaluated and shipped; 0: the last weights.
        workers: processes that share each batch, one thread each.
        device: ``cpu`` or ``cuda`` (one process, without the C++ kernel).
        native_attention: compile the C++ attention kernel (a CPU, a compiler); without it PyTorch's operations serve.
        backbone_weights: checkpoint whose backbone the run starts from (of a run of the pretraining alone, say); empty:
            from scratch.
        dataset: folder with ``train.json``, ``train/``, ``val.json`` and ``val/`` in place of rendered scenes.
        half_checkpoint: store the checkpoint in half precision (reading it gives float32 again).
        val_images, val_seed: how many images of the validation set are evaluated, and the seed of its scenes (one for
            all runs, so that they can be compared).
        evaluate_every, checkpoint_every, log_every: in steps.
    """

    model: ModelConfig
    training: PhaseConfig
    pretraining: PhaseConfig = dataclasses.field(default_factory=lambda: PhaseConfig(steps=0))
    scenes: SceneSpec = dataclasses.field(default_factory=SceneSpec)
    classes_first: int = 0
    seed: int = 0
    saliency: str = "dam"
    ema_decay: float = 0.999
    workers: int = 1
    device: str = "cpu"
    native_attention: bool = False
    half_checkpoint: bool = False
    backbone_weights: str = ""
    dataset: str = ""
    val_images: int = 200
    val_seed: int = 0
    evaluate_every: int = 1000
    checkpoint_every: int = 200
    log_every: int = 50

    def __post_init__(self) -> None:
        self._check_model()
        if self.saliency not in SALIENCIES:
            raise InputError(f"saliency {self.saliency!r} is not one of {', '.join(SALIENCIES)}")
        if self.saliency == "objectness" and not self.model.is_sparse:
            raise InputError("saliency 'objectness' selects tokens, but the model is dense: set model.rho")
        if self.device not in DEVICES:
            raise InputError(f"device {self.device!r} is not one of {', '.join(DEVICES)}")
        if self.device == "cuda" and (self.native_attention or self.workers > 1):
            raise InputError("device 'cuda' goes with workers = 1 and native_attention = false")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}, but 0 ≤ ema_decay < 1 is needed")
        counts = ("workers", "val_images", "evaluate_every", "checkpoint_every", "log_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, but it must be 1 or more")
        for name, most in (("workers", 1024), ("val_images", 10**9)):
            if getattr(self, name) > most:
                raise InputError(f"{name} is {getattr(self, name)}, but it is at most {most}")
        for name in ("seed", "val_seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}, but it must not be negative")
        self._check_phases()

    def _check_model(self) -> None:
        model = self.model
        check_limits(model.to_dict())
        if model.num_classes != len(CLASS_NAMES):
            raise InputError(f"model.num_classes is {model.num_classes}, but the scenes have {len(CLASS_NAMES)}")
        if not model.two_stage and (model.eff_query_init or model.eff_specific_head):
            raise InputError("eff_query_init and eff_specific_head are of the first stage: set model.two_stage")
        if model.two_stage and model.refine_references is False:
            raise InputError("a two-stage decoder refines its references: leave model.refine_references out")
        if model.use_enc_aux_loss and model.enc_layers == 1:
            raise InputError("use_enc_aux_loss is of the encoder's layers before the last, but enc_layers is 1")

    def _check_phases(self) -> None:
        if self.pretraining.steps and not self.model.two_stage:
            raise InputError("pretraining trains the first stage, but the model has none: set model.two_stage")
        if self.pretraining.steps and not self.model.eff_specific_head:
            raise InputError("pretraining teaches the first stage the classes: set model.eff_specific_head")
        if not 0 <= self.classes_first <= self.pretraining.steps:
            raise InputError(
                f"classes_first is {self.classes_first} of the pretraining's {self.pretraining.steps} steps"
            )
        for name, phase in (("training", self.training), ("pretraining", self.pretraining)):
            if phase.steps and phase.batch_size % self.workers:
                raise InputError(
                    f"{name}.batch_size {phase.batch_size} cannot be shared by {self.workers} workers evenly"
                )
            if phase.steps and phase.train_images % self.workers:
                raise InputError(f"{name}.train_images {phase.train_images} is no multiple of workers ({self.workers})")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML file."""
        return dataclasses.asdict(self)


def read_config(path: str | Path) -> TrainingConfig:
    """Read a TOML file.

    Raises:
        InputError: it cannot be read, has unknown keys, values of a wrong type, or an impossible combination.
    """
    path = Path(path)
    values = read_toml(path)
    try:
        return config_from(values)
    except (InputError, CheckpointError) as error:
        raise InputError(f"{path}: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a TOML file. Raises :class:`InputError` where it cannot be read."""
    try:
        values: dict[str, Any] = _toml().loads(read_text(path, _MOST_BYTES))
        check_plain(values)
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "strerror", None) or error
        raise InputError(f"the config {path} cannot be read ({reason})") from None
    return values


def _toml() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    try:
        import tomli  # type: ignore[import-not-found]
    except ImportError:
        raise InputError("Python 3.10 reads TOML with the package tomli: pip install tomli") from None
    return tomli


def config_from(values: Mapping[str, Any]) -> TrainingConfig:
    """A run from the content of its TOML file."""
    values = dict(values)
    for name, section in (
        ("model", ModelConfig),
        ("training", PhaseConfig),
        ("pretraining", PhaseConfig),
        ("scenes", SceneSpec),
    ):
        if name in values:
            values[name] = _section(section, values[name], name)
    return _section(TrainingConfig, values, "")


def _section(kind: type[_Section], values: Any, name: str) -> _Section:
    where = f"[{name}]" if name else "the file"
    if not isinstance(values, Mapping):
        raise InputError(f"{name} is {values!r}, but it is a section: write {where} and its keys below it")
    hints = typing.get_type_hints(kind)
    fields: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [key for key in values if key not in fields]
    if unknown:
        raise InputError(f"unknown keys in {where}: {', '.join(unknown)}; known: {', '.join(fields)}")
    missing = [
        key
        for key, field in fields.items()
        if key not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"missing in {where}: {', '.join(missing)}")
    return kind(**{key: _checked(value, hints[key], f"{name}.{key}" if name else key) for key, value in values.items()})


def _checked(value: Any, hint: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return value
    if hint == tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2 or not all(type(entry) is int for entry in value):
            raise InputError(f"{name} is {value!r}, but two whole numbers [least, most] are needed")
        return tuple(value)
    kinds = typing.get_args(hint) or (hint,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        raise InputError(f"{name} is {value!r}, but {' or '.join(kind.__name__ for kind in kinds)} is needed")
    return value
