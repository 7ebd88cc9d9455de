#!/usr/bin/env bash
# Everything of the kernels and of the CUDA layer that only a GPU can tell, in one call: build, tests, memory and race
# checks, timings. Under ten minutes ($LIMIT seconds). Results go to $OUT (default: benchmarks/results/gpu): device.csv,
# run.log and kernels.json, which names the device. Needs nvcc, cmake and a python3 with the package's extra [export],
# cuda-bindings and pytest; the package itself need not be installed. TensorRT's headers: pass TENSORRT_ROOT, or have the
# package kernel-lens (plugins/README.md). Changes no setting of the GPU.
set -uo pipefail
cd "$(dirname "$0")/../.."
. benchmarks/gpu/steps.sh
BUILD=$(realpath -m "${BUILD:-build/plugins/gpu}")
export SPARSE_DETR_BUILD=$BUILD
kernels=$BUILD/tests/libsparse_detr_kernels_c.so

step configure 30 cmake -S plugins -B "$BUILD" -DCMAKE_CUDA_ARCHITECTURES="$capability" -DPython3_EXECUTABLE="$(command -v "$PYTHON")"
step build 90 cmake --build "$BUILD" -j
step cuda_layer 60 "$PYTHON" -m pytest tests/runtime/test_engine_gpu.py -m gpu -k real_driver -rs -p no:cacheprovider
step tests 110 "$PYTHON" -m pytest tests/plugins/test_kernels_gpu.py -m gpu -rs -p no:cacheprovider
# before the checks with the sanitizer, which take what time is left
step kernel_table 130 "$PYTHON" -m benchmarks.gpu.kernel_table "$kernels" --json "$OUT/kernels.json"
[ -s "$OUT/kernels.json" ] && cat "$OUT/kernels.json"
for tool in memcheck racecheck; do
  if command -v compute-sanitizer >/dev/null; then
    step "$tool" 90 compute-sanitizer --tool "$tool" --error-exitcode 1 --kernel-name kernel_substring=sparse_detr \
      "$PYTHON" -m benchmarks.gpu.smoke "$kernels"
  else
    echo "compute-sanitizer is not installed: $tool left out"
  fi
done

# the kernels of others beside ours (README.md), last: what is cut short keeps its rows in peers.json
PEERS=${PEERS:-build/peers}
if [ $((LIMIT - SECONDS)) -lt 90 ]; then
  echo "too little of the $LIMIT seconds is left: the kernels of others are left out" | tee -a "$log"
elif step peer_build 100 "$PYTHON" -m benchmarks.gpu.peer_build "$PEERS" --output "$PEERS/lib" --architecture "$capability"; then
  cat "$scratch/output"
  step peer_table 600 "$PYTHON" -m benchmarks.gpu.peer_table "$kernels" --libraries "$PEERS/lib" --json "$OUT/peers.json" \
    --budget $((LIMIT - SECONDS - 40)) && cat "$scratch/output"
fi
exit $failed
