"""Sparse DETR, deployed: run and measure exported detectors. Nothing here imports torch."""

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import ArtefactError, BackendError, InputError, SparseDetrError
from sparse_detr_deploy.metadata import Metadata

__version__ = "0.1.0"

__all__ = [
    "ArtefactError",
    "BackendError",
    "Detections",
    "Detector",
    "InputError",
    "Metadata",
    "SparseDetrError",
]
