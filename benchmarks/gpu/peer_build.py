"""Compile the harness against checkouts of the measured kernels: ``python -m benchmarks.gpu.peer_build PEERS``.

``PEERS`` holds checkouts named ``original``, ``tensorrt`` and ``dcnv4`` (``fetch_peers.sh`` makes them) and may hold
``cccl``, headers of a CUB newer than the compiler's. Each gives one library; ``peers.json`` beside them says which there
are, and why others are not. Needs nvcc, no GPU. A library is kept while its sources and the compiler stay the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sparse_detr_deploy.export.engine.plugin_build import find_nvcc

HARNESS = Path(__file__).parent / "harness"
RECORD = "peers.json"
TIME_LIMIT = 300


@dataclasses.dataclass(frozen=True)
class PeerSource:
    """Where a kernel lies in its checkout; ``needed`` must be there, ``include`` goes on the include path."""

    include: str
    needed: str
    upstream: str


SOURCES = {
    "original": PeerSource(
        "original/models/ops/src", "cuda/ms_deform_im2col_cuda.cuh", "fundamentalvision/Deformable-DETR"
    ),
    "tensorrt": PeerSource(
        "tensorrt/plugin/multiscaleDeformableAttnPlugin", "multiscaleDeformableIm2ColCuda.cuh", "NVIDIA/TensorRT"
    ),
    "dcnv4": PeerSource("dcnv4/DCNv4_op/src", "cuda/flash_deform_im2col_cuda.cuh", "OpenGVLab/DCNv4"),
}
CUB = "cub"


def cccl_include(peers: Path) -> Path | None:
    """Folder of ``cub/`` somewhere below ``peers/cccl``, or ``None``."""
    found = sorted((peers / "cccl").rglob("cub/cub.cuh")) if (peers / "cccl").is_dir() else []
    return found[0].parents[1] if found else None


def include_folder(name: str, peers: Path) -> Path | None:
    """What goes on the include path beside the harness; ``None`` for the compiler's own CUB."""
    return cccl_include(peers) if name == CUB else peers / SOURCES[name].include


def missing(name: str, peers: Path) -> str | None:
    """Why the library cannot be built, or ``None``."""
    if name == CUB:
        return None
    source = SOURCES[name]
    wanted = peers / source.include / source.needed
    if wanted.is_file():
        return None
    return f"there is no {wanted}: put a checkout of {source.upstream} there (benchmarks/gpu/fetch_peers.sh)"


def command(nvcc: str, name: str, peers: Path, architecture: str, target: Path) -> list[str]:
    """The compiler call. Warnings of others' code are not shown."""
    include = include_folder(name, peers)
    folders = [HARNESS / "shim", HARNESS, *([include] if include else [])]
    return [
        *(nvcc, "-O3", "-std=c++17", "-w", "-shared", "-Xcompiler", "-fPIC,-fvisibility=hidden"),
        *(f"-gencode=arch=compute_{architecture},code=sm_{architecture}",),
        *(f"-I{folder}" for folder in folders),
        *(str(HARNESS / f"{name}.cu"), "-o", str(target)),
    ]


def digest(compiler: str, architecture: str, name: str, peers: Path) -> str:
    """Of the compiler, the target and every source of a library; the same wherever the folders lie."""
    hashed = hashlib.sha256(json.dumps([compiler, architecture]).encode())
    include = include_folder(name, peers)
    theirs = [include / "cub" / "version.cuh"] if name == CUB and include else []
    if name != CUB and include:
        theirs = [path for path in include.rglob("*") if path.suffix in {".h", ".cuh"}]
    ours = [*HARNESS.rglob("*.h"), *HARNESS.rglob("*.cuh"), HARNESS / f"{name}.cu"]
    for path in [*sorted(ours), *sorted(theirs)]:
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def build_one(name: str, peers: Path, output: Path, architecture: str, nvcc: str, compiler: str) -> dict[str, Any]:
    """``library`` and ``seconds``, or ``left_out``."""
    why = missing(name, peers)
    if why is not None:
        return {"left_out": why}
    library, mark = output / f"libpeer_{name}.so", output / f"libpeer_{name}.digest"
    sources = digest(compiler, architecture, name, peers)
    if library.is_file() and mark.is_file() and mark.read_text() == sources:
        return {"library": library.name, "seconds": 0.0}
    mark.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        arguments = command(nvcc, name, peers, architecture, library)
        result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return {"left_out": f"nvcc took more than {TIME_LIMIT} s"}
    if result.returncode != 0:
        return {"left_out": f"nvcc failed: {(result.stdout + result.stderr).strip()[-2000:]}"}
    mark.write_text(sources)
    return {"library": library.name, "seconds": round(time.monotonic() - started, 1)}


def build(peers: Path, output: Path, architecture: str, jobs: int) -> dict[str, dict[str, Any]]:
    """Build what can be built and write the record; where there is no nvcc every entry says so."""
    output.mkdir(parents=True, exist_ok=True)
    nvcc = find_nvcc()
    names = [*SOURCES, CUB]
    if nvcc is None:
        record = {name: {"left_out": "there is no nvcc: put it on the path or set CUDA_HOME"} for name in names}
    else:
        compiler = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            tasks = [pool.submit(build_one, name, peers, output, architecture, nvcc, compiler) for name in names]
            record = {name: task.result() for name, task in zip(names, tasks, strict=True)}
    (output / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return record


def main() -> int:
    """Build and say what there is; exit code 7 if nothing is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", type=Path, help="folder of the checkouts")
    parser.add_argument("--output", type=Path, help="folder of the libraries (default: PEERS/lib)")
    parser.add_argument("--architecture", default="90", help="compute capability without the dot (default: 90)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    options = parser.parse_args()
    output = options.output or options.peers / "lib"
    record = build(options.peers, output, options.architecture, options.jobs)
    for name, entry in record.items():
        print(f"{name}: {entry.get('left_out') or str(output / entry['library'])} ({entry.get('seconds', 0)} s)")
    if any("library" in entry for entry in record.values()):
        return 0
    print("no library was built", file=sys.stderr)
    return 7


if __name__ == "__main__":
    raise SystemExit(main())
