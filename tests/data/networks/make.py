"""Writes the .npz files of this folder with the original implementations; see README.md for where they come from.

    PYTHONPATH=TORCHVISION python make.py DEFORMABLE_DETR SPARSE_DETR [CASE …]

TORCHVISION is an unpacked wheel of torchvision; the other two are clones. Each case runs in a process of its own,
because both clones have a package named ``models``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "reference"))
import recipe  # noqa: E402

# Small, and every number another one where two could be swapped.
NARROW = {
    **{"hidden_dim": 64, "nheads": 4, "dim_feedforward": 96, "enc_layers": 2, "dec_layers": 3},
    **{"enc_n_points": 3, "dec_n_points": 2, "num_queries": 20},
}
DEFORMABLE = {
    "one_stage": {},
    "box_refinement": {"with_box_refine": True},
    # its position embedding of boxes is written for 256 alone
    "two_stage": {"with_box_refine": True, "two_stage": True, "hidden_dim": 256, "nheads": 8, "dec_layers": 2},
    "single_scale": {"num_feature_levels": 1},
    "single_scale_dc5": {"num_feature_levels": 1, "dilation": True},
    "r101_five_levels": {"backbone": "resnet101", "num_feature_levels": 5},
}
SPARSE = {
    "sparse_box_refinement": {"with_box_refine": True},
    "swint_odd": {"backbone": "swin-t", "enc_layers": 1, "dec_layers": 2},
}
SIZES = {"swint_odd": [(61, 90), (53, 91)]}  # no stage's map is divisible by two or by the window, some are smaller
DEFAULT_SIZES = [(64, 75), (51, 96)]
ALONE = ("one_stage",)  # the first image once more, by itself: nothing is padded then
# what the original code reads beside the shape of the network
OTHER = {
    **{"device": "cpu", "dataset_file": "twenty classes", "masks": False, "aux_loss": True, "frozen_weights": None},
    **{"lr_backbone": 0.0, "dropout": 0.1, "position_embedding": "sine", "focal_alpha": 0.25},
    **{"cls_loss_coef": 2, "bbox_loss_coef": 5, "giou_loss_coef": 2, "mask_prediction_coef": 1},
    **{"set_cost_class": 2, "set_cost_bbox": 5, "set_cost_giou": 2, "rho": 0.0, "use_enc_aux_loss": False},
    **{"eff_query_init": False, "eff_specific_head": False, "finetune_early_layers": True},
    **{"backbone_from_scratch": True, "scrl_pretrained_path": "", "backbone": "resnet50", "dilation": False},
    **{"num_feature_levels": 4, "with_box_refine": False, "two_stage": False},
}


def load_original(clone: Path) -> types.ModuleType:
    """The clone's ``models``, with its own pure-PyTorch attention in the place of the CUDA one and nothing downloaded."""
    import torchvision

    torchvision.__version__ = "0.9.0"  # the clones read the first three letters as a number
    sys.modules["MultiScaleDeformableAttention"] = types.ModuleType("MultiScaleDeformableAttention")
    layers = types.ModuleType("timm.models.layers")  # three small things of timm that Swin asks for
    layers.DropPath = lambda rate: torch.nn.Identity()  # type: ignore[attr-defined]
    layers.to_2tuple = lambda value: value if isinstance(value, tuple) else (value, value)  # type: ignore[attr-defined]
    layers.trunc_normal_ = torch.nn.init.trunc_normal_  # type: ignore[attr-defined]
    for name in ("timm", "timm.models"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["timm.models.layers"] = layers
    sys.path.insert(0, str(clone))
    os.chdir(clone)  # Swin's settings are read from there
    import models
    import models.backbone
    import models.ops.functions.ms_deform_attn_func as function
    import models.ops.modules.ms_deform_attn as module

    class Attention:
        @staticmethod
        def apply(value: Any, shapes: Any, starts: Any, locations: Any, weights: Any, step: int) -> Any:
            return function.ms_deform_attn_core_pytorch(value, shapes, locations, weights)

    module.MSDeformAttnFunction = Attention
    models.backbone.is_main_process = lambda: False  # no pretrained weights
    return models


def fill(model: torch.nn.Module) -> None:
    """Every tensor by rule; one that has several names by the first of them in the alphabet."""
    done = set()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_floating_point() and tensor.data_ptr() not in done:
            done.add(tensor.data_ptr())
            tensor.copy_(torch.from_numpy(np.asarray(recipe.tensor_values(name, tuple(tensor.shape)), np.float32)))


def images(case: str, sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    return [torch.from_numpy(recipe.image(f"{case}:{index}", *size)) for index, size in enumerate(sizes)]


@torch.no_grad()
def make(case: str, clone: Path) -> None:
    config = {**NARROW, **DEFORMABLE.get(case, {}), **SPARSE.get(case, {})}
    models = load_original(clone)
    model = models.build_model(argparse.Namespace(**{**OTHER, **config}))[0].eval()
    fill(model)
    from util.misc import nested_tensor_from_tensor_list

    sizes = SIZES.get(case, DEFAULT_SIZES)
    arrays: dict[str, Any] = {}
    runs = {"padded": len(sizes), "alone": 1} if case in ALONE else {"padded": len(sizes)}
    for run, count in runs.items():
        output = model(nested_tensor_from_tensor_list(images(case, sizes)[:count]))
        layers = [*output["aux_outputs"], output]
        arrays[f"{run}_logits"] = torch.stack([layer["pred_logits"] for layer in layers]).numpy()
        arrays[f"{run}_boxes"] = torch.stack([layer["pred_boxes"] for layer in layers]).numpy()
    state = {name: list(tensor.shape) for name, tensor in sorted(model.state_dict().items())}
    own = {name: shape for name, shape in state.items() if not name.startswith("backbone.")}
    backbone = json.dumps({name: shape for name, shape in state.items() if name not in own})
    np.savez_compressed(
        FOLDER / f"{case}.npz",
        config=json.dumps(config),
        sizes=np.array(sizes),
        state=json.dumps(own),
        backbone_sha256=hashlib.sha256(backbone.encode()).hexdigest(),
        trained=sum(parameter.numel() for parameter in model.parameters()),
        **arrays,
    )


if __name__ == "__main__":
    deformable, sparse, *cases = sys.argv[1:]
    for case in cases or [*DEFORMABLE, *SPARSE]:
        if len(cases) == 1:
            make(case, Path(sparse if case in SPARSE else deformable).resolve())
        else:
            subprocess.run([sys.executable, __file__, deformable, sparse, case], check=True)
