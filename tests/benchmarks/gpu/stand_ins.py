"""Stand-ins for what needs a GPU: others' kernels compiled for the host, our kernels, the stopwatch."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.cases import attention_case
from sparse_detr_deploy.modeling.ops import ms_deform_attn, select_tokens

ROOT = Path(__file__).parents[3]
HARNESS = ROOT / "benchmarks" / "gpu" / "harness"


def compile_host(source: str, target: Path, *options: str) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    file = target.with_suffix(".cpp")
    file.write_text(source)
    subprocess.run([compiler, "-O1", f"-I{HARNESS}", *options, str(file), "-o", str(target)], check=True)
    return target


# Deformable attention in the plainest form, on host memory; -DINDEX and -DFUSED choose the peer's form.
ATTENTION_STAND_IN = """
#include <cmath>
#include <vector>
#include "peer_call.h"
PEER_LAUNCH(const PeerAttention* p, cudaStream_t) {
  const PeerAttention& a = *p;
  if (a.type != PEER_FLOAT32) return PEER_UNSUPPORTED;
  if (a.queries == 13) return 700;  // as a CUDA error would come back
  auto value = (const float*)a.value, where = (const float*)a.locations, weights = (const float*)a.weights;
  auto shapes = (const INDEX*)a.spatial_shapes, starts = (const INDEX*)a.level_starts;
  const int samples = a.levels * a.points;
  if (FUSED != (a.weights == nullptr)) return PEER_REFUSED;
  for (int row = 0; row < a.batch * a.queries * a.heads; ++row) {
    const int head = row % a.heads, image = row / a.heads / a.queries;
    const float* xy = where + (long)row * samples * (FUSED ? 3 : 2);
    std::vector<float> weight(samples);
    float sum = 0;
    for (int s = 0; s < samples; ++s)
      sum += weight[s] = FUSED ? std::exp(xy[2 * samples + s]) : weights[(long)row * samples + s];
    float* out = (float*)a.output + (long)row * a.channels;
    for (int c = 0; c < a.channels; ++c) out[c] = 0;
    for (int s = 0; s < samples; ++s) {
      const int level = s / a.points, height = shapes[2 * level], width = shapes[2 * level + 1];
      const float x = xy[2 * s] * width - 0.5f, y = xy[2 * s + 1] * height - 0.5f;
      for (int corner = 0; corner < 4; ++corner) {
        const int column = (int)std::floor(x) + corner % 2, line = (int)std::floor(y) + corner / 2;
        if (column < 0 || line < 0 || column >= width || line >= height) continue;
        const float share = (1 - std::fabs(x - column)) * (1 - std::fabs(y - line)) * weight[s] / (FUSED ? sum : 1);
        const long token = (long)image * a.tokens + starts[level] + line * width + column;
        for (int c = 0; c < a.channels; ++c) out[c] += share * value[(token * a.heads + head) * a.channels + c];
      }
    }
  }
  return 0;
}
"""

SELECTION_STAND_IN = """
#include <algorithm>
#include <numeric>
#include <vector>
#include "peer_call.h"
PEER_LAUNCH(PeerSelection* a, cudaStream_t) {
  if (a->method == PEER_TOPK || (a->method == PEER_SORT && a->batch != 1)) return PEER_UNSUPPORTED;
  if (!a->workspace) { a->workspace_bytes = 48; return 0; }
  if (a->workspace_bytes != 48) return 1;
  auto boundaries = (const int32_t*)a->boundaries;
  for (int image = 0; image < a->batch; ++image) {
    auto scores = (const float*)a->scores + boundaries[image];
    auto positions = (const int32_t*)a->positions + boundaries[image];
    std::vector<int> order(boundaries[image + 1] - boundaries[image]);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int l, int r) { return scores[l] > scores[r]; });
    for (size_t i = 0; i < order.size(); ++i) {
      ((float*)a->kept_scores)[boundaries[image] + i] = scores[order[i]];
      ((int32_t*)a->kept_positions)[boundaries[image] + i] = positions[order[i]];
    }
  }
  return 0;
}
"""


def case_of(queries, dtype=torch.float32, seed=0, **options):
    return attention_case(queries, dtype, seed, device="cpu", **options)


def host_stopwatch(calls):
    def elapsed():
        for call in calls:
            call()
        return 5.0

    return elapsed


class HostKernels:
    """Our kernels' interface on host memory."""

    def ms_deform_attn(self, *inputs, output=None, split=0):
        result = ms_deform_attn(*inputs)
        return result if output is None else output.copy_(result)

    def select_tokens(self, scores, num_keep, width, *, output=None):
        indices = select_tokens(scores, torch.full((len(scores),), width))
        return indices if output is None else output.copy_(indices)
