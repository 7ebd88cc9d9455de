"""Checkpoints that would eat memory or time, or raise what is not ours: each is refused by name, in little memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparse_detr_deploy.modeling import SparseDETR
from tests.export.hostile_checkpoints import CHANGED, CRAFTED, HUGE, NORM, SAFETENSORS, SIDECARS

READ = """
import json, resource, sys, warnings
from pathlib import Path
import torch
from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export import load_checkpoint

torch.set_num_threads(1)
warnings.simplefilter("error")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 3 * 2**29
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for line in sys.stdin:
    path = line.rstrip("\\n")
    try:
        model = load_checkpoint(path)
        result = ["loaded", str(sorted((key, list(value.shape)) for key, value in model.state_dict().items()))]
        finite = all(torch.isfinite(value).all() for value in model.state_dict().values())
        result = result if finite else ["not finite", ""]
    except CheckpointError as error:
        result = ["CheckpointError", str(error)]
    except BaseException as error:
        result = [type(error).__name__, str(error)[:300]]
    print(json.dumps(result), flush=True)
"""


def read_all(paths: list[Path], seconds: float) -> dict[Path, list[str]]:
    """What loading each file gives, in a process of its own of 1.5 GB more than it needs to start."""
    found = subprocess.run(
        [sys.executable, "-c", READ],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        timeout=seconds,  # against hangs alone
        check=False,
    )
    lines = found.stdout.splitlines()
    assert len(lines) == len(paths), f"{paths[len(lines)]}: {found.returncode}, {found.stderr[-500:]}"
    return {path: json.loads(line) for path, line in zip(paths, lines, strict=True)}


Found = dict[str, tuple[Path, list[str]]]


@pytest.fixture(scope="module")
def found(official: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "official.pth").write_bytes(official)
    paths: dict[str, Path] = {}
    tables = [(CRAFTED, ".pth", ""), (SAFETENSORS, ".safetensors", "safetensors: ")]
    for table, suffix, prefix in tables:
        for name, write in table.items():
            paths[prefix + name] = path = folder / f"{len(paths)}{suffix}"
            write(path)
    for name, change in CHANGED.items():
        content = torch.load(folder / "official.pth", weights_only=False)
        content["model"] = dict(content["model"])
        change(content)
        paths[name] = path = folder / f"{len(paths)}.pth"
        torch.save(content, path)
    for name, write in SIDECARS.items():
        paths[name] = path = folder / f"{len(paths)}.pth"
        content = torch.load(folder / "official.pth", weights_only=False)
        torch.save(content["model"], path)
        write(path.with_suffix(".json"))
    results = read_all(list(paths.values()), 500)
    yield {name: (path, results[path]) for name, path in paths.items()}
    for path in paths.values():
        path.unlink()


@pytest.mark.parametrize("name", [*CRAFTED, *(f"safetensors: {name}" for name in SAFETENSORS), *CHANGED, *SIDECARS])
def test_a_hostile_checkpoint_is_refused_by_name(name: str, found: Found) -> None:
    path, (kind, message) = found[name]
    assert kind == "CheckpointError", message
    assert str(path.with_suffix("")) in message
    assert len(message) < 1500 + 5 * len(str(path))
    assert message.isprintable()


SURELY: dict[str, str] = {
    "expanded": "overlap",
    "beyond its storage": "reaches beyond its storage",
    "a storage larger than its record": "not as large as it is described",
    "an archive that is a bomb": "compressed",
    "records that overlap": "overlap",
    "records of one name": "two records of one name",
    "an encrypted record": "encrypted",
    "a terabyte of holes": "checkpoints of at most",
    "names that collide": "key",
    "too many tensors": "30,000 tensors",
    "arguments that hold themselves": "nested more than 64 deep",
    "arguments of 10^40 values": "more than 10,000 values",
    "an argument of 2000 bits": "64 bits",
    "a FIFO": "FIFO",
    "a device": "device",
    "sidecar: a FIFO": "FIFO",
    "sidecar: a device": "device",
    "sidecar: 20 MB": "larger than",
    "safetensors: tensors that overlap": "overlap",
    "a long text as an argument": "argument rho is 'xxxx",
    "networks of petabytes": "missing: transformer.encoder.layers.2",
    "endless under an unknown name": "overlap",
    "overflow in float32": "NaN or infinity",
    "no elements": f"{NORM} is [0], expected [32]",
    "heads without end": "unexpected: class_embed.0.x0 [5]",
}


@pytest.mark.parametrize("name", SURELY)
def test_and_with_its_reason(name: str, found: Found) -> None:
    assert SURELY[name] in found[name][1][1]


def safetensors_of(network: SparseDETR, path: Path) -> bytes:
    from safetensors.torch import save_file

    args = json.dumps({**network.config.to_dict(), "rho": 0.3})
    save_file({key: value.clone() for key, value in network.state_dict().items()}, path, metadata={"config": args})
    return path.read_bytes()


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_mutations_load_the_same_network_or_are_refused(
    form: str, network: SparseDETR, official: bytes, tmp_path: Path
) -> None:
    path = tmp_path / ("x.safetensors" if form == "safetensors" else "x.pth")
    path.write_bytes(official)
    if form == "legacy":
        torch.save(torch.load(path, weights_only=False), path, _use_new_zipfile_serialization=False)
    content = safetensors_of(network, path) if form == "safetensors" else path.read_bytes()
    heads, tails = (60_000, 60_000) if form == "zip" else (40_000, 0)
    generator = random.Random(form)
    paths = []
    for index in range(120):
        damaged = bytearray(content)
        for _ in range(1 + index % 3):
            place = generator.randrange(heads + tails)
            place = place if place < heads else len(content) - 1 - (place - heads)
            action = generator.randrange(4)
            if action == 0:
                damaged[place] ^= 1 << generator.randrange(8)
            elif action == 1:
                damaged[place] = generator.choice((0, 1, 127, 128, 255, *b"}](.RQetsu"))
            elif action == 2:
                damaged[place : place + 8] = generator.choice((2**63 - 1, HUGE, 1)).to_bytes(8, "little")
            else:
                del damaged[place : place + generator.randrange(1, 9)]
        paths.append(tmp_path / f"{index}{path.suffix}")
        paths[-1].write_bytes(damaged)
    (tmp_path / "whole").mkdir()
    whole = path.rename(tmp_path / "whole" / path.name)
    results = read_all([whole, *paths], 500)
    loaded = results[whole]
    assert loaded[0] == "loaded"
    kinds = {name: [kind for kind, _ in results.values()].count(name) for name in ("loaded", "CheckpointError")}
    others = {path.name: result for path, result in results.items() if result[0] not in kinds}
    assert not others
    assert kinds["CheckpointError"] > 20
    for damaged_path in paths:
        kind, message = results[damaged_path]
        if kind == "loaded":
            assert message == loaded[1]
        else:
            assert str(damaged_path) in message
            assert message.isprintable()
