"""``pytest -p tests.avx2``: PyTorch and our kernels as on a processor whose best instruction set is AVX2.

Their sums are then taken in another order. ONNX Runtime has no such switch, and OpenVINO crashes where its oneDNN is
told of less than it finds itself: so the variable is gone again before OpenVINO reads it.
"""

from __future__ import annotations

import os

os.environ |= {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "SPARSE_DETR_CPU_LEVEL": "avx2",
}
import torch

torch.nn.functional.conv2d(torch.zeros(1, 8, 9, 9), torch.zeros(8, 8, 3, 3))  # oneDNN settles it at its first use
del os.environ["ONEDNN_MAX_CPU_ISA"]
