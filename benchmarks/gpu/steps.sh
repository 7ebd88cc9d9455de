# Sourced by run.sh and engines.sh from the checkout's root: steps that share one time limit and one log, and the package
# straight from the checkout where it is not installed. Of $OUT few files may come back from a lent machine.
# shellcheck shell=bash
export PYTHONUNBUFFERED=1
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results/gpu}
LIMIT=${LIMIT:-580} # seconds, of all steps together
mkdir -p "$OUT"
log=$OUT/$(basename "$0" .sh).log
: >"$log"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

step() { # name, seconds, command…; its output is then in $scratch/output
  local name=$1 limit=$2 left=$((LIMIT - SECONDS)) status
  shift 2
  echo "== $name" | tee -a "$log"
  if [ "$left" -lt 5 ]; then
    echo "LEFT OUT: $name, the $LIMIT seconds are over" | tee -a "$log"
    failed=1
    return 1
  fi
  timeout -k 5 "$((left < limit ? left : limit))" "$@" 2>&1 | tee -a "$log" >"$scratch/output"
  status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] && return 0
  echo "FAILED ($status): $name"
  tail -n 30 "$scratch/output"
  failed=1
  return 1
}

if ! command -v nvidia-smi >/dev/null; then
  echo "there is no nvidia-smi here, so no NVIDIA GPU to measure" >&2
  exit 7
fi
nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.sm,power.draw --format=csv | tee "$OUT/device.csv"
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)

export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if ! "$PYTHON" -c "import sparse_detr_deploy.export, sparse_detr_deploy.benchmarks" 2>/dev/null; then
  # as an editable install would, but without pip, a network or a new enough setuptools
  cat >"$scratch/sitecustomize.py" <<'EOF'
import importlib.util
import os
import sys

ROOT = os.environ["SPARSE_DETR_CHECKOUT"]
FOLDERS = {"sparse_detr_deploy": "sparse_detr_deploy"}
FOLDERS |= {f"sparse_detr_deploy.{name}": name for name in ("export", "benchmarks", "plugins")}


class Checkout:
    @staticmethod
    def find_spec(name, path=None, target=None):
        start = os.path.join(ROOT, FOLDERS.get(name, ""), "__init__.py")
        if name not in FOLDERS or not os.path.exists(start):
            return None
        return importlib.util.spec_from_file_location(name, start, submodule_search_locations=[os.path.dirname(start)])


sys.meta_path.insert(0, Checkout)
EOF
  export SPARSE_DETR_CHECKOUT=$PWD PYTHONPATH=$scratch:$PYTHONPATH
  step import 30 "$PYTHON" -c "import sparse_detr_deploy.export, sparse_detr_deploy.benchmarks" || exit 7
fi
