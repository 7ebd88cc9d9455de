"""What is no checkpoint is refused with a reason, and nothing in it runs."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export import load_checkpoint
from sparse_detr_deploy.export.checkpoint_file import read_checkpoint


class Code:
    """Makes the folder ``target`` when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "weights_only" not in message  # an argument that our user cannot set
    return message


def small_file(path: Path, **options) -> Path:
    content = {"model": {"weight": torch.arange(3000.0)}, "args": argparse.Namespace(rho=0.3)}
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_save_are_read(tmp_path: Path, zipped: bool) -> None:
    file = read_checkpoint(small_file(tmp_path / "x.pth", _use_new_zipfile_serialization=zipped))
    assert file.args == {"rho": 0.3}
    assert file.tensors["weight"].tolist() == list(range(3000))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["model", "args", "optimizer"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, zipped: bool, place: str) -> None:
    target = tmp_path / "ran"
    content = {"model": {"weight": torch.ones(2)}, "args": argparse.Namespace(), place: Code(target)}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    message = refusal(tmp_path / "x.pth")
    assert "mkdir" in message
    assert "nothing of them was run" in message
    assert not target.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_plain_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "ran"
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Code(target), protocol=protocol))
    assert "not a PyTorch checkpoint" in refusal(tmp_path / "x.pth")
    assert not target.exists()


def test_the_pickled_code_would_run_if_it_were_let(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Code(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "x.pth")


def test_torchscript(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pth")
    assert "TorchScript" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is text\n",
        b"<!DOCTYPE html><html>Not found</html>",
        b'{"rho": 0.3}',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n",
        b"\x00" * 1000,
        b"\xff\xd8\xff\xe0",
    ],
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    assert "not a PyTorch checkpoint" in refusal(tmp_path / "x.pth")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    assert "damaged, truncated or not a PyTorch checkpoint" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_empty_missing_and_folder(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    assert "does not exist" in refusal(path)
    path.touch()
    assert "is empty" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "is a folder" in refusal(path)


def test_a_path_below_a_file_and_one_with_a_null_byte(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "does not exist" in refusal(tmp_path / "file" / "x.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint("nowhere\0.pth")


def test_names_that_are_too_long(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert "cannot be read (File name too long)" in refusal(tmp_path / f"{'x' * 300}.pth")
    longest = tmp_path / f"{'x' * 251}.pth"  # of its sidecars x.pth.json is none that could be there
    os.link(tiny_checkpoint, longest)
    assert load_checkpoint(longest).config.num_queries == 20


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.9, 0.9999])
def test_truncated(tmp_path: Path, zipped: bool, share: float) -> None:
    path = small_file(tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(len(content) * share))])
    refusal(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_give_no_other_error(tmp_path: Path, zipped: bool) -> None:
    """Bytes changed at random: read, or refused with our error; never anything else."""
    content = small_file(tmp_path / "x.pth", _use_new_zipfile_serialization=zipped).read_bytes()
    generator = random.Random(0)
    refused = 0
    for index in range(300):
        damaged = bytearray(content)
        for _ in range(1 + index % 20):
            damaged[generator.randrange(min(len(content), 900))] = generator.randrange(256)
        (tmp_path / "x.pth").write_bytes(damaged)
        try:
            read_checkpoint(tmp_path / "x.pth")
        except CheckpointError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"model": {}}, "no tensors"),
        ({"epoch": 3}, "no tensors"),
        ({"model": {"weight": torch.ones(2)}}, "transformer.level_embed is missing"),
    ],
)
def test_files_of_torch_that_are_no_checkpoints(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert message in refusal(tmp_path / "x.pth")


def test_truncated_and_damaged_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.arange(1000.0)}, path)
    content = path.read_bytes()
    for damaged in (content[:5], content[: len(content) // 2], b"not safetensors at all", b"\xff" * 200):
        path.write_bytes(damaged)
        assert "not a safetensors file" in refusal(path)


@pytest.mark.parametrize("described", ["null", "[1]", "{", '"text"', "[" * 200_000])
def test_safetensors_whose_config_is_no_object(tmp_path: Path, described: str) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "x.safetensors", metadata={"config": described})
    refusal(tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3", "\xff", "[" * 200_000, '{"a":' * 200_000])
def test_a_sidecar_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "x.pth")
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"x\.json is not"):
        load_checkpoint(tmp_path / "x.pth")


def test_numpy_values_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.ones(2)}, "best_ap": np.float64(0.4)}, tmp_path / "x.pth")
    assert "numpy" in refusal(tmp_path / "x.pth")


def test_a_foreign_config_json_does_not_matter_to_a_file_with_arguments(tiny_checkpoint: Path, tmp_path: Path) -> None:
    os.link(tiny_checkpoint, tmp_path / "tiny.pth")
    (tmp_path / "config.json").write_text(json.dumps({"num_queries": 7, "dilation": True}))
    config = load_checkpoint(tmp_path / "tiny.pth").config
    assert (config.num_queries, config.dilation) == (20, False)
