"""Checkpoint files and their arguments."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
from typing import Any

import torch

from sparse_detr_deploy.export.checkpoint_file import read_checkpoint, read_sidecar
from sparse_detr_deploy.export.inference import checked_arguments, config_from_tensors
from sparse_detr_deploy.export.stored_tensor import StoredTensor
from sparse_detr_deploy.modeling import ModelConfig
from tests.fuzz.harness import Case, Target

_ARGS: dict[str, Any] = {
    "backbone": "resnet50",
    "hidden_dim": 256,
    "nheads": 8,
    "enc_layers": 6,
    "dec_layers": 6,
    "num_queries": 300,
    "num_feature_levels": 4,
    "dilation": False,
    "two_stage": True,
    "with_box_refine": True,
    "eff_query_init": True,
    "eff_specific_head": True,
    "rho": 0.3,
    "use_enc_aux_loss": True,
    "enc_n_points": 4,
    "dec_n_points": 4,
    "dim_feedforward": 1024,
    "lr_backbone_names": ["backbone.0"],
    "output_dir": "runs/x",
}


@functools.cache
def _files() -> tuple[bytes, ...]:
    tensors = {"transformer.level_embed": torch.zeros(4, 8), "class_embed.0.weight": torch.ones(5, 8).half()}
    content = {"model": tensors, "args": argparse.Namespace(**_ARGS), "epoch": 3}
    found = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        found.append(file.getvalue())
    return tuple(found)


@functools.cache
def _endless(count: int) -> bytes:
    """One number that says to be ten million of them, ``count`` times under other names."""
    tensors = {f"x{index}": torch.zeros(1).expand(10_000_000) for index in range(min(count, 100))}
    file = io.BytesIO()
    torch.save({"model": tensors}, file)
    return file.getvalue()


def run_file(case: Case) -> None:
    """``read_checkpoint``, both formats of ``torch.save``, and safetensors."""
    mutator = case.mutator
    path = case.folder / "x.pth"
    if case.mutated:
        content = mutator.data(mutator.pick(_files()))
    elif mutator.chance(0.05):
        content = _endless(mutator.pick((1, 10, 10_000)))
    elif mutator.chance(0.5):
        header = mutator.json(
            {"x": {"dtype": mutator.pick(("F32", "F8_E4M3", "x")), "shape": mutator.value(), "data_offsets": [0, 4]}}
        )
        length = mutator.pick((len(header.encode("utf-8", "replace")), 2**63, 2**32, 0))
        content = length.to_bytes(8, "little") + header.encode("utf-8", "replace") + b"\0" * 4
        path = case.folder / "x.safetensors"
    else:
        content = (
            mutator.pick((b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x04", b""))
            + mutator.noise()
        )
    path.write_bytes(content)
    file = read_checkpoint(path)
    taken = sum(tensor.numel() * tensor.element_size() for tensor in file.tensors.values())
    assert taken <= 8 * len(content) + 2**20, f"{taken:,} bytes of tensors in a file of {len(content):,}"
    checked_arguments(file.args)


def run_arguments(case: Case) -> None:
    """Arguments as a file may hold them, against the tensors of a network."""
    valid = dict(_ARGS)
    mutator = case.mutator
    args = (
        mutator.document(valid)
        if case.mutated
        else {key: mutator.value() if mutator.chance(0.3) else old for key, old in valid.items()}
    )
    if not isinstance(args, dict):  # read_checkpoint hands on nothing else
        return
    checked = checked_arguments(args)
    for field in dataclasses.fields(ModelConfig):
        if field.name in checked:
            assert isinstance(checked[field.name], (bool, int, float, str))
    tensors = {
        "transformer.level_embed": StoredTensor(torch.float32, (4, 256), (256, 1), 0),
        "class_embed.0.weight": StoredTensor(torch.float32, (5, 256), (256, 1), 0),
        "backbone.0.body.layer3.0.conv1.weight": StoredTensor(torch.float32, (8, 8, 1, 1), (8, 1, 1, 1), 0),
    }
    config_from_tensors(tensors, args, lambda key: torch.zeros(tensors[key].shape))


def run_arguments_file(case: Case) -> None:
    """The JSON file of arguments beside a checkpoint."""
    mutator = case.mutator
    document = mutator.document(_ARGS) if case.mutated else mutator.value()
    (case.folder / "y.json").write_bytes(mutator.json(document).encode("utf-8", "surrogatepass"))
    checked_arguments(read_sidecar(case.folder / "y.pth", False))


TARGETS = (
    Target("checkpoint", run_file, 14),
    Target("arguments", run_arguments, 10),
    Target("arguments-file", run_arguments_file, 6),
)
