#!/usr/bin/env bash
# Everything that only a GPU can tell, in one call: build, tests, memory and race checks, timings. Under ten minutes.
# Results go to $OUT (default: benchmarks/results/gpu). Needs nvcc, cmake and a python3 with torch, numpy and pytest;
# TensorRT's headers as plugins/README.md says (pass TENSORRT_ROOT). Changes no setting of the GPU.
set -uo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results/gpu}
BUILD=${BUILD:-build/plugins/gpu}
mkdir -p "$OUT"
failed=0
step() {  # name, seconds, command…
  local name=$1 limit=$2
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$OUT/$name.log" 2>&1 || { echo "FAILED ($?): $name"; tail -n 30 "$OUT/$name.log"; failed=1; }
}

if ! command -v nvidia-smi >/dev/null; then
  echo "there is no nvidia-smi here, so no NVIDIA GPU to measure" >&2
  exit 7
fi
nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.draw --format=csv | tee "$OUT/device.csv"
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
step configure 30 cmake -S plugins -B "$BUILD" -DCMAKE_CUDA_ARCHITECTURES="$capability" -DPython3_EXECUTABLE="$(command -v "$PYTHON")"
step build 90 cmake --build "$BUILD" -j
export SPARSE_DETR_BUILD=$PWD/$BUILD
step tests 120 "$PYTHON" -m pytest tests/plugins/test_kernels_gpu.py -m gpu -p no:cacheprovider
for tool in memcheck racecheck; do
  if command -v compute-sanitizer >/dev/null; then
    step "$tool" 100 compute-sanitizer --tool "$tool" --error-exitcode 1 --kernel-name kernel_substring=sparse_detr \
      "$PYTHON" -m benchmarks.gpu.smoke "$BUILD/tests/libsparse_detr_kernels_c.so"
  else
    echo "compute-sanitizer is not installed: $tool left out"
  fi
done
step kernel_table 130 "$PYTHON" -m benchmarks.gpu.kernel_table "$BUILD/tests/libsparse_detr_kernels_c.so" --json "$OUT/kernels.json"
[ -s "$OUT/kernels.json" ] && cat "$OUT/kernels.json"
exit $failed
