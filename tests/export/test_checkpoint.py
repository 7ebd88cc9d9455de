"""Checkpoints of every architecture, in every form that promises to load."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export import load_checkpoint
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR, build_model
from tests.conftest import TINY

ONE_STAGE = {"rho": 0.0, "two_stage": False, "with_box_refine": False, "eff_query_init": False}
ONE_STAGE["eff_specific_head"] = False
PLAIN_TWO_STAGE = {**ONE_STAGE, "two_stage": True}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "one stage": ONE_STAGE,
    "one stage, box refinement as Deformable DETR": {**ONE_STAGE, "with_box_refine": True, "refine_references": True},
    "one stage, box refinement as Sparse DETR": {**ONE_STAGE, "with_box_refine": True},
    "two stages": {**PLAIN_TWO_STAGE, "with_box_refine": True},
    "two stages without box refinement": PLAIN_TWO_STAGE,
    "two stages without box refinement as Deformable DETR": {**PLAIN_TWO_STAGE, "refine_references": False},
    "efficient": {"rho": 0.0},
    "sparse": {},
    "sparse without auxiliary heads": {"use_enc_aux_loss": False},
    "sparse, one encoder layer": {"enc_layers": 1},
    "3+2 layers": {"enc_layers": 3, "dec_layers": 2},
    "1+4 layers, dense": {"rho": 0.0, "enc_layers": 1, "dec_layers": 4},
    "resnet50": {"backbone": "resnet50"},
    "dilation": {"backbone": "resnet50", "dilation": True},
    "one level": {"backbone": "resnet50", "num_feature_levels": 1, "num_queries": 5},
    "five levels": {"num_feature_levels": 5},
    "other points and heads": {"enc_n_points": 2, "dec_n_points": 3, "nheads": 4},
    "resnet101": {"backbone": "resnet101"},
    "swin-t": {"backbone": "swin-t"},
}


def network(**changes: Any) -> SparseDETR:
    backbone = changes.pop("backbone", "thin-resnet18")
    architecture = {"swin-t": "swint", "thin-resnet18": "thin18"}.get(backbone, "r50")
    model = random_model(architecture, 1, **{**TINY, **changes})
    if backbone == "resnet101":  # random_model has no such architecture: untrained, all heads alike
        model = build_model(dataclasses.replace(model.config, backbone=backbone))
    return model


def outputs(model: SparseDETR) -> torch.Tensor:
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(image)
    return torch.cat([found.pred_logits, found.pred_boxes], dim=-1)


def saved_bare(model: SparseDETR, folder: Path, args: dict[str, Any] | None = None) -> Path:
    torch.save(model.state_dict(), folder / "x.pth")
    if args is not None:
        (folder / "x.json").write_text(json.dumps(args))
    return folder / "x.pth"


def resolved(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, refine_references=config.refines_references)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    model = network(**ARCHITECTURES[name])
    loaded = load_checkpoint(save_official_checkpoint(model, tmp_path / "x.pth"))
    assert not loaded.training
    assert resolved(loaded.config) == resolved(model.config)
    assert torch.equal(outputs(loaded), outputs(model))


def test_heads_that_are_equal_by_chance(tmp_path: Path) -> None:
    """An untrained network with box refinement: all heads are clones, and the arguments say that they are many."""
    model = build_model(dataclasses.replace(network().config, use_enc_aux_loss=False))
    loaded = load_checkpoint(save_official_checkpoint(model, tmp_path / "x.pth"))
    assert loaded.config.with_box_refine
    assert loaded.class_embed[0] is not loaded.class_embed[1]


def test_only_the_last_class_head_differs(tmp_path: Path) -> None:
    model = build_model(dataclasses.replace(network(**ONE_STAGE).config, with_box_refine=True))
    with torch.no_grad():
        model.class_embed[-1].bias += 1
    assert load_checkpoint(saved_bare(model, tmp_path, {"nheads": 8, "dilation": False})).config.with_box_refine


def official(model: SparseDETR, folder: Path) -> dict[str, Any]:
    content = torch.load(save_official_checkpoint(model, folder / "official.pth"), weights_only=False)
    assert isinstance(content["args"], argparse.Namespace)
    return content


def prefixed(content: dict[str, Any], path: Path) -> Path:
    torch.save({**content, "model": {f"module.{key}": value for key, value in content["model"].items()}}, path)
    return path


def bare(content: dict[str, Any], path: Path) -> Path:
    torch.save(content["model"], path)
    path.with_suffix(".json").write_text(json.dumps(vars(content["args"])))
    return path


def bare_prefixed(content: dict[str, Any], path: Path) -> Path:
    torch.save({f"module.{key}": value for key, value in content["model"].items()}, path)
    path.with_name("config.json").write_text(json.dumps(vars(content["args"])))
    return path


def nested(content: dict[str, Any], path: Path) -> Path:
    torch.save({"state_dict": content["model"]}, path)
    path.with_name(f"{path.name}.json").write_text(json.dumps({"args": vars(content["args"])}))
    return path


def old_format(content: dict[str, Any], path: Path) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def with_counters(content: dict[str, Any], path: Path) -> Path:
    counters = {"backbone.0.body.bn1.num_batches_tracked": torch.tensor(7)}
    torch.save({**content, "model": {**content["model"], **counters}, "epoch": 49, "optimizer": {"state": {}}}, path)
    return path


def dictionary_args(content: dict[str, Any], path: Path) -> Path:
    torch.save({"model": content["model"], "args": vars(content["args"])}, path)
    return path


def safetensors_copies(content: dict[str, Any], path: Path) -> Path:
    from safetensors.torch import save_file

    path = path.with_suffix(".safetensors")
    save_file({key: value.clone() for key, value in content["model"].items()}, path)
    path.with_suffix(".json").write_text(json.dumps(vars(content["args"])))
    return path


def safetensors_config_inside(content: dict[str, Any], path: Path) -> Path:
    from safetensors.torch import save_file

    path = path.with_suffix(".safetensors")
    tensors = {key: value.clone() for key, value in content["model"].items()}
    save_file(tensors, path, metadata={"format": "pt", "config": json.dumps(vars(content["args"]))})
    return path


FORMS: list[Callable[[dict[str, Any], Path], Path]] = [
    prefixed,
    bare,
    bare_prefixed,
    nested,
    old_format,
    with_counters,
    dictionary_args,
    safetensors_copies,
    safetensors_config_inside,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_forms(form: Callable[[dict[str, Any], Path], Path], tiny_model: SparseDETR, tmp_path: Path) -> None:
    path = form(official(tiny_model, tmp_path), tmp_path / "x.pth")
    loaded = load_checkpoint(str(path))
    assert resolved(loaded.config) == resolved(tiny_model.config)
    assert torch.equal(outputs(loaded), outputs(tiny_model))
    assert loaded.source["file"] == path.name
    assert len(loaded.source["sha256"]) == 64


@pytest.mark.parametrize("name", ["sparse", "two stages", "one stage", "one stage, box refinement as Deformable DETR"])
def test_safetensors_that_store_shared_tensors_once(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_model

    model = network(**ARCHITECTURES[name])
    save_model(model, str(tmp_path / "x.safetensors"))
    (tmp_path / "x.json").write_text(json.dumps(dataclasses.asdict(model.config)))
    assert torch.equal(outputs(load_checkpoint(tmp_path / "x.safetensors")), outputs(model))


@pytest.mark.parametrize(
    "prefix",
    [
        "class_embed.",
        "bbox_embed.",
        "transformer.decoder.class_embed.",
        "transformer.decoder.bbox_embed.",
        "transformer.encoder.bbox_embed.",
    ],
)
@pytest.mark.parametrize("name", ["sparse", "two stages"])
def test_heads_whose_other_names_are_left_out(name: str, prefix: str, tmp_path: Path) -> None:
    model = network(**ARCHITECTURES[name])
    content = official(model, tmp_path)
    content["model"] = {key: value for key, value in content["model"].items() if not key.startswith(prefix)}
    torch.save(content, tmp_path / "x.pth")
    assert torch.equal(outputs(load_checkpoint(tmp_path / "x.pth")), outputs(model))


def test_half_precision_is_read_as_float32(tiny_model: SparseDETR, tmp_path: Path) -> None:
    content = official(tiny_model, tmp_path)
    torch.save({**content, "model": {key: value.half() for key, value in content["model"].items()}}, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}


def test_a_config_in_place_of_arguments(tiny_model: SparseDETR, tmp_path: Path) -> None:
    torch.save(tiny_model.state_dict(), tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth", config=tiny_model.config)
    assert torch.equal(outputs(loaded), outputs(tiny_model))


Change = Callable[[dict[str, Any]], object]


def remove(key: str) -> Change:
    return lambda content: content["model"].pop(key)


def put(key: str, value: torch.Tensor) -> Change:
    return lambda content: content["model"].update({key: value})


def argue(**values: Any) -> Change:
    return lambda content: [setattr(content["args"], key, value) for key, value in values.items()]


def drop_layers(pattern: str) -> Change:
    return lambda content: [content["model"].pop(key) for key in list(content["model"]) if key.startswith(pattern)]


NORM = "transformer.encoder.layers.1.norm1.weight"


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (remove(NORM), [f"missing: {NORM} [64]"]),
        (put("extra.weight", torch.ones(3)), ["unexpected: extra.weight [3]"]),
        (put(NORM, torch.ones(65)), [f"{NORM} is [65], expected [64]"]),
        (put(NORM, torch.ones(64, dtype=torch.int8)), [f"{NORM} is [64] torch.int8, expected [64]"]),
        (put(NORM, torch.full((64,), float("nan"))), [NORM, "NaN"]),
        (put(NORM, torch.ones(64, dtype=torch.complex64)), [NORM, "not a plain dense tensor"]),
        (put(NORM, torch.ones(64).to_sparse()), [NORM, "not a plain dense tensor"]),
        (drop_layers("transformer.encoder.layers.1."), ["missing: transformer.encoder.layers.1", "2+2 layers"]),
        (drop_layers("transformer.decoder.layers.1."), ["missing: transformer.decoder.layers.1"]),
        (drop_layers("transformer.enc_mask_predictor"), ["missing: transformer.enc_mask_predictor", "rho 0.3"]),
        (drop_layers("backbone."), ["backbone is neither"]),
        (remove("transformer.level_embed"), ["transformer.level_embed is missing"]),
        (put("transformer.level_embed", torch.ones(64)), ["level_embed is [64]", "2 dimensions"]),
        (put("class_embed.0.weight", torch.tensor(1.0)), ["class_embed.0.weight is []"]),
        (put("transformer.decoder.class_embed.0.bias", torch.ones(5)), ["name one tensor but hold different values"]),
        (argue(rho=0.0), ["no keep ratio 'rho'"]),
        (argue(rho=None), ["no keep ratio 'rho'"]),
        (argue(rho="abc"), ["argument rho is 'abc'"]),
        (argue(rho=1.5), ["rho is 1.5"]),
        (argue(rho=float("nan")), ["rho is nan"]),
        (argue(nheads=0), ["nheads is 0"]),
        (argue(nheads="eight"), ["argument nheads is 'eight'"]),
        (argue(nheads=7), ["multiple of nheads 7"]),
        (argue(enc_layers=3), ["missing: transformer.encoder.layers.2"]),
        (argue(enc_layers=10**9), ["enc_layers is 1000000000"]),
        (argue(num_queries=-1), ["num_queries is -1"]),
        (argue(num_queries=2.5), ["argument num_queries is 2.5"]),
        (argue(num_classes=7), ["wrong shape", "class_embed.0.weight is [5, 64], expected [7, 64]"]),
        (argue(two_stage=False, rho=0.0), ["no keep ratio"]),
        (argue(two_stage="yes"), ["argument two_stage is 'yes'"]),
        (argue(masks=True), ["segmentation"]),
        (argue(position_embedding="learned"), ["position_embedding"]),
    ],
)
def test_mismatches_are_named(change: Change, messages: list[str], tiny_model: SparseDETR, tmp_path: Path) -> None:
    content = official(tiny_model, tmp_path)
    content["model"] = dict(content["model"])
    change(content)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "x.pth")
    for message in [*messages, str(tmp_path / "x.pth")]:
        assert message in str(caught.value)


def test_a_resnet_of_another_depth(tmp_path: Path) -> None:
    content = official(network(backbone="resnet50"), tmp_path)
    argue(backbone="resnet101")(content)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"(?s)resnet101.*missing: backbone\.0\.body\.layer3\.6"):
        load_checkpoint(tmp_path / "x.pth")


def test_arguments_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    content = official(network(backbone="resnet50"), tmp_path)
    argue(lr=2e-4, device="cuda", lr_backbone_names=["backbone.0"], frozen_weights=None, backbone="resnet-50")(content)
    torch.save(content, tmp_path / "x.pth")
    assert load_checkpoint(tmp_path / "x.pth").config.backbone == "resnet50"


def test_the_module_takes_what_is_promised(tiny_checkpoint: Path) -> None:
    model = load_checkpoint(tiny_checkpoint)
    images, sizes = torch.rand(2, 3, 96, 128), torch.tensor([[96, 100], [80, 128]])
    with torch.no_grad():
        found = model(images, image_sizes=sizes, keep_ratio=0.5)
    assert found.pred_logits.shape == (2, 20, 5)
    assert found.pred_boxes.shape == (2, 20, 4)
    assert found.pred_boxes.min() >= 0
    assert found.pred_boxes.max() <= 1
