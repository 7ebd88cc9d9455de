"""The CUDA kernels on a GPU: a binding without compilation, checks and timings. ``run.sh`` does all in one go."""
