"""Architecture of a detector of the Sparse DETR family, in the official argument names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.short_repr import short_repr

BACKBONES = ("resnet50", "resnet101", "swin-t", "thin-resnet18")
_SHORT_NAMES = {"resnet50": "r50", "resnet101": "r101", "swin-t": "swint", "thin-resnet18": "thin18"}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What fixes the shape of a network; field names and defaults are those of the official training code.

    ``rho`` is the keep ratio that the network was trained with; 0 means a dense encoder and no scoring network.
    ``refine_references`` says whether each decoder layer moves the reference points of the next. The Sparse DETR code
    does so exactly when ``two_stage``; the original Deformable DETR also does so for one-stage models with
    ``with_box_refine`` (their checkpoints hold ``transformer.decoder.bbox_embed.*``). ``None`` means: as ``two_stage``.
    """

    backbone: str = "resnet50"
    dilation: bool = False
    num_classes: int = 91
    num_queries: int = 300
    num_feature_levels: int = 4
    hidden_dim: int = 256
    nheads: int = 8
    enc_layers: int = 6
    dec_layers: int = 6
    dim_feedforward: int = 1024
    enc_n_points: int = 4
    dec_n_points: int = 4
    with_box_refine: bool = False
    two_stage: bool = False
    eff_query_init: bool = False
    eff_specific_head: bool = False
    use_enc_aux_loss: bool = False
    rho: float = 0.0
    refine_references: bool | None = None

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise CheckpointError(f"the backbone {short_repr(self.backbone)} is not one of {', '.join(BACKBONES)}")
        if self.dilation and not self.backbone.startswith("resnet"):
            raise CheckpointError("dilation (DC5) exists for ResNet-50 and ResNet-101 only")
        if not 0.0 <= self.rho <= 1.0:
            raise CheckpointError(f"rho is {self.rho}, but a trained keep ratio lies in 0 (dense) to 1")
        if self.backbone == "thin-resnet18" and self.num_feature_levels == 1:
            raise CheckpointError("thin-resnet18 has several feature levels: num_feature_levels must be 3 to 8")
        if self.rho and not self.two_stage:
            raise CheckpointError("a sparse encoder (rho > 0) needs two_stage: its proposal layers score the tokens")
        if (
            self.nheads < 1
            or self.hidden_dim < 1
            or self.hidden_dim % self.nheads
            or self.hidden_dim % 4
            or self.hidden_dim % 32
        ):
            raise CheckpointError(f"hidden_dim {self.hidden_dim} must be a multiple of nheads {self.nheads} and of 32")
        if self.num_feature_levels == 2 or not 1 <= self.num_feature_levels <= 8:
            raise CheckpointError(f"num_feature_levels is {self.num_feature_levels}; 1 or 3 to 8 are possible")

    @property
    def is_sparse(self) -> bool:
        """Whether the network has a scoring network and runs at a keep ratio."""
        return self.rho > 0

    @property
    def refines_references(self) -> bool:
        """Whether decoder layers move the reference points (``refine_references``, resolved)."""
        return self.two_stage if self.refine_references is None else self.refine_references

    @property
    def short_name(self) -> str:
        """Short name of the backbone, as it stands in file names: ``r50``, ``swint``."""
        return _SHORT_NAMES[self.backbone]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Take the fields that this class knows from the official ``args`` (or any mapping) and leave the rest."""
        known = {field.name for field in dataclasses.fields(cls)}
        taken = {key: value for key, value in values.items() if key in known and value is not None}
        if values.get("position_embedding", "sine") not in ("sine", "v2"):
            raise CheckpointError(
                f"position_embedding {short_repr(values['position_embedding'])} is not supported: the published models "
                "use 'sine'"
            )
        if values.get("masks"):
            raise CheckpointError("the checkpoint has a segmentation head (masks=True); only detectors are supported")
        return cls(**taken)


def sparse_config(backbone: str = "resnet50", rho: float = 0.3, **changes: Any) -> ModelConfig:
    """The published Sparse DETR: two-stage, box refinement, Efficient-DETR queries, encoder auxiliary heads."""
    return ModelConfig(
        backbone=backbone,
        **{
            "rho": rho,
            "with_box_refine": True,
            "two_stage": True,
            "eff_query_init": True,
            "eff_specific_head": True,
            "use_enc_aux_loss": bool(rho),
            **changes,
        },
    )
