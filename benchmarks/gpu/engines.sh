#!/usr/bin/env bash
# Engines on this GPU, in one call: build at every ρ, parity with ONNX Runtime, the runner's tests, the latency-ρ table.
# Under ten minutes. Results go to $OUT (default: benchmarks/results/gpu). FLAVOUR is tensorrt-rtx (default) or tensorrt.
# Needs a python3 with the package's extras [export,bench] and the flavour's, nvidia-ml-py and pytest. Changes no setting
# of the GPU. Exported files are kept in $MODELS: bring them along to save the time.
set -uo pipefail
cd "$(dirname "$0")/../.."
export PYTHONUNBUFFERED=1
PYTHON=${PYTHON:-python3}
FLAVOUR=${FLAVOUR:-tensorrt-rtx}
PRECISION=${PRECISION:-fp16}
OUT=${OUT:-benchmarks/results/gpu}
MODELS=${MODELS:-build/gpu_models}
SIZE=${SIZE:-800x1066}
mkdir -p "$OUT" "$MODELS"
failed=0
step() {  # name, seconds, command…
  local name=$1 limit=$2
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$OUT/$name.log" 2>&1 || { echo "FAILED ($?): $name"; tail -n 30 "$OUT/$name.log"; failed=1; return 1; }
}

if ! command -v nvidia-smi >/dev/null; then
  echo "there is no nvidia-smi here, so no NVIDIA GPU to measure" >&2
  exit 7
fi
nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.draw --format=csv | tee "$OUT/device.csv"
capability=sm$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
export_program=("$PYTHON" -m sparse_detr_deploy.export.cli)
model=(--architecture r50 --random-weights 0 --size "$SIZE" --precision "$PRECISION" --output "$MODELS")
if ! ls "$MODELS"/*.onnx >/dev/null 2>&1; then
  step export_sparse 200 "${export_program[@]}" "${model[@]}" --rho 0.1 --rho 0.3 --rho 0.5 --rho dynamic
  step export_dense 60 "${export_program[@]}" "${model[@]}" --dense
fi
target=()
[ "$FLAVOUR" = tensorrt-rtx ] && target=(--target "$capability")
for onnx in "$MODELS"/*.onnx; do
  name=$(basename "$onnx" .onnx)
  [ -e "${onnx%.onnx}.engine" ] || step "build_$name" 120 "${export_program[@]}" "$onnx" --output "$MODELS" --engine "$FLAVOUR" "${target[@]}"
done
engines=("$MODELS"/*.engine)
if [ ! -e "${engines[0]}" ]; then
  echo "no engine was built: the logs in $OUT say why" >&2
  exit 7
fi
step engine_tests 120 "$PYTHON" -m pytest tests/runtime/test_engine_gpu.py -m gpu -p no:cacheprovider
step engine_parity 120 "$PYTHON" -m benchmarks.gpu.engine_parity "${engines[@]}" --json "$OUT/engine_parity.json"
step engine_table 150 "$PYTHON" -m sparse_detr_deploy.benchmarks.cli run "${engines[@]}" --keep-ratio 0.1 --keep-ratio 0.3 \
  --keep-ratio 0.5 --keep-ratio 1 --warmup 20 --rounds 200 --json "$OUT/engines.json" --csv "$OUT/engines.csv" --plot "$OUT/engines.png"
cat "$OUT/engine_parity.log" "$OUT/engine_table.log" 2>/dev/null
exit $failed
