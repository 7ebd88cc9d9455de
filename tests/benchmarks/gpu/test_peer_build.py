"""Which libraries are built, and why others are not."""

import json
import os
from pathlib import Path

import pytest

from benchmarks.gpu import peer_build
from benchmarks.gpu.peer_library import PeerLibrary
from benchmarks.gpu.peer_table import load_libraries
from sparse_detr_deploy.errors import BackendError, InputError


def test_missing_checkouts_and_a_missing_compiler_are_named(tmp_path, monkeypatch):
    assert "put a checkout of NVIDIA/TensorRT there" in peer_build.missing("tensorrt", tmp_path)
    assert peer_build.missing("cub", tmp_path) is None
    monkeypatch.setattr(peer_build, "find_nvcc", lambda: None)
    record = peer_build.build(tmp_path, tmp_path / "lib", "90", 1)
    assert all("there is no nvcc" in entry["left_out"] for entry in record.values())
    assert load_libraries(tmp_path / "lib")["dcnv4"] == record["dcnv4"]["left_out"]
    assert "no folder" in load_libraries(None)["cub"]
    with pytest.raises(InputError, match="peer_build first"):
        load_libraries(tmp_path)
    (tmp_path / "libpeer_cub.so").write_bytes(b"no library")
    (tmp_path / "peers.json").write_text(json.dumps({"cub": {"library": "libpeer_cub.so"}}))
    assert "cannot be loaded" in load_libraries(tmp_path)["cub"]
    with pytest.raises(BackendError):
        PeerLibrary(tmp_path / "libpeer_cub.so")


def test_a_library_is_built_once_and_again_when_its_source_changes(tmp_path, monkeypatch):
    source = tmp_path / "original/models/ops/src/cuda/ms_deform_im2col_cuda.cuh"
    source.parent.mkdir(parents=True)
    source.write_text("one")
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo 13.0; exit; }\necho "$@" >>"$0.calls"\n'
        'case "$*" in *cub.cu*) echo "no such thing" >&2; exit 1;; esac\n'
        'for last; do :; done; echo library >"$last"\n'
    )
    nvcc.chmod(0o755)
    monkeypatch.setattr(peer_build, "find_nvcc", lambda: str(nvcc))

    def calls():
        return [line for line in Path(f"{nvcc}.calls").read_text().splitlines() if "original.cu" in line]

    record = peer_build.build(tmp_path, tmp_path / "lib", "90", 1)
    assert record["original"]["library"] == "libpeer_original.so"
    assert "no such thing" in record["cub"]["left_out"]
    assert "put a checkout" in record["dcnv4"]["left_out"]
    assert "code=sm_90" in calls()[0]
    peer_build.build(tmp_path, tmp_path / "lib", "90", 1)
    assert len(calls()) == 1
    source.write_text("two")
    peer_build.build(tmp_path, tmp_path / "lib", "90", 1)
    assert len(calls()) == 2


@pytest.mark.slow
def test_the_harness_compiles_against_checkouts():
    peers = os.environ.get("PEERS")
    if peers is None or peer_build.find_nvcc() is None:
        pytest.skip("needs nvcc and PEERS, the folder that fetch_peers.sh made")
    record = peer_build.build(Path(peers), Path(peers) / "lib", "90", 1)
    assert {name: entry.get("left_out") for name, entry in record.items()} == dict.fromkeys(record)
    for entry in record.values():
        PeerLibrary(Path(peers) / "lib" / entry["library"])  # loads without a driver
