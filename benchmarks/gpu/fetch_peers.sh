#!/usr/bin/env bash
# Checkouts of the measured kernels, only the folders that are compiled: benchmarks/gpu/fetch_peers.sh FOLDER
# Nothing of them is committed here. Needs git and a network. ORIGINAL_URL, TENSORRT_URL and DCNV4_URL may name mirrors.
# CCCL=1 fetches the headers of a newer CUB too (cub::DeviceTopK), by pip.
set -euo pipefail
folder=${1:?give a folder for the checkouts, such as build/peers}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

checkout() {  # name, URL, commit, folder that is needed
  local git
  git=$(mktemp -d)
  git init -q --bare "$git"
  git -C "$git" remote add origin "$2"
  git -C "$git" fetch -q --depth 1 --filter=blob:none origin "$3" # of the files, only those that `archive` asks for
  rm -rf "${folder:?}/$1"
  mkdir "$folder/$1"
  git -C "$git" archive "$3" "$4" | tar -x -C "$folder/$1"
  echo "$2 $3" >"$folder/$1/SOURCE"
  rm -rf "$git"
  echo "$1: $3"
}

checkout original "${ORIGINAL_URL:-https://github.com/fundamentalvision/Deformable-DETR}" \
  11169a60c33333af00a4849f1808023eba96a931 models/ops/src
checkout tensorrt "${TENSORRT_URL:-https://github.com/NVIDIA/TensorRT}" \
  a892d22267d9cd2dedc1a0893e6892ac901f6d3d plugin/multiscaleDeformableAttnPlugin
checkout dcnv4 "${DCNV4_URL:-https://github.com/OpenGVLab/DCNv4}" \
  4b848f7dd7da74ff03f7d278f902c6fd05b391b5 DCNv4_op/src
if [ "${CCCL:-0}" = 1 ]; then
  wheels=$(mktemp -d)
  "${PYTHON:-python3}" -m pip download -q --no-deps -d "$wheels" nvidia-cuda-cccl==13.2.86
  rm -rf "$folder/cccl"
  "${PYTHON:-python3}" -m zipfile -e "$wheels"/*.whl "$folder/cccl"
  rm -rf "$wheels"
  echo "cccl: 13.2.86"
fi
