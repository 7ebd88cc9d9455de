"""The comparison with other ways to run the same detector: ``python -m sparse_detr_deploy.benchmarks.peers``."""
