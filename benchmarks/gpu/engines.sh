#!/usr/bin/env bash
# Engines on this GPU, in one call: build at every ρ, parity with ONNX Runtime, the runner's tests, the latency-ρ table.
# Ends within $LIMIT seconds (default: 580) and then says what it left out: on a slow machine set it higher. Results go to
# $OUT (default: benchmarks/results/gpu): device.csv, engines.log, engine_parity.json, engines.json, .csv and .png; the
# JSON files name the device. FLAVOUR is tensorrt-rtx (default; GeForce and RTX GPUs) or tensorrt (data-centre GPUs too).
# Needs a python3 with the package's extras [export,bench] and the flavour's, and pytest; the package itself need not be
# installed. Changes no setting of the GPU. Exported files and engines are kept in $MODELS: bring the former along to
# save the time.
set -uo pipefail
cd "$(dirname "$0")/../.."
. benchmarks/gpu/steps.sh
FLAVOUR=${FLAVOUR:-tensorrt-rtx}
PRECISION=${PRECISION:-fp16}
MODELS=${MODELS:-build/gpu_models}
SIZE=${SIZE:-800x1066}
mkdir -p "$MODELS"

export_program=("$PYTHON" -m sparse_detr_deploy.export.cli)
model=(--architecture r50 --random-weights 0 --size "$SIZE" --precision "$PRECISION" --output "$MODELS")
if ! ls "$MODELS"/*.onnx >/dev/null 2>&1; then
  step export_sparse 200 "${export_program[@]}" "${model[@]}" --rho 0.1 --rho 0.3 --rho 0.5 --rho dynamic
  step export_dense 60 "${export_program[@]}" "${model[@]}" --dense
fi
target=()
[ "$FLAVOUR" = tensorrt-rtx ] && target=(--target "sm$capability")
for onnx in "$MODELS"/*.onnx; do
  [ -e "$onnx" ] || continue
  name=$(basename "$onnx" .onnx)
  [ -e "${onnx%.onnx}.engine" ] || step "build_$name" 120 "${export_program[@]}" "$onnx" --output "$MODELS" --engine "$FLAVOUR" "${target[@]}"
done
engines=("$MODELS"/*.engine)
if [ ! -e "${engines[0]}" ]; then
  echo "no engine was built: $log says why" >&2
  exit 7
fi
step engine_table 150 "$PYTHON" -m sparse_detr_deploy.benchmarks.cli run "${engines[@]}" --keep-ratio 0.1 --keep-ratio 0.3 \
  --keep-ratio 0.5 --keep-ratio 1 --warmup 20 --rounds 200 --json "$OUT/engines.json" --csv "$OUT/engines.csv" --plot "$OUT/engines.png"
cat "$scratch/output"
step engine_parity 120 "$PYTHON" -m benchmarks.gpu.engine_parity "${engines[@]}" --json "$OUT/engine_parity.json"
cat "$scratch/output"
step engine_tests 240 "$PYTHON" -m pytest tests/runtime/test_engine_gpu.py -m gpu -rs -p no:cacheprovider
exit $failed
