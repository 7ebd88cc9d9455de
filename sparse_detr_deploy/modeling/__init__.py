"""The Sparse DETR family in PyTorch: what a checkpoint is loaded into and what every artefact is verified against."""

from sparse_detr_deploy.modeling.config import ModelConfig, sparse_config
from sparse_detr_deploy.modeling.output import DetectorOutput
from sparse_detr_deploy.modeling.sparse_detr import SparseDETR, build_model

__all__ = ["DetectorOutput", "ModelConfig", "SparseDETR", "build_model", "sparse_config"]
