"""Sparse DETR, deployed: run and measure exported detectors. Nothing here imports torch."""

__version__ = "0.1.0"
