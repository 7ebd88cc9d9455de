"""The paper's experiments in small: ``python -m sparse_detr_deploy.benchmarks.paper``."""
