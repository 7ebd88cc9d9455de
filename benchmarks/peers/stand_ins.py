"""Stand-ins for what the original code imports and inference on a CPU does not need, or does not have.

torchvision's ResNet is stood in for by ours, layer for layer; everything else raises when it is called.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparse_detr_deploy.modeling import ModelConfig
from sparse_detr_deploy.modeling.backbones.resnet import FrozenBatchNorm2d, ResNet

# the original compares torchvision's version as a float, so that versions from 0.10 on count as old to it
_TORCHVISION_VERSION = "0.9"


@contextlib.contextmanager
def imports_from(folder: Path, packages: Collection[str], stood_in: Collection[str]) -> Iterator[None]:
    """Import from ``folder`` first, with stand-ins for the packages ``stood_in``.

    Afterwards neither the stand-ins nor the ``packages`` of the folder are among the imported modules any more, so
    that their general names (``models``, ``util``) are in nobody's way. Nothing is written into the folder.
    """
    temporary = {*packages, *stood_in}
    hidden = {name: module for name, module in sys.modules.items() if name.split(".")[0] in temporary}
    for name in hidden:
        del sys.modules[name]
    finder = _Finder(stood_in)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(str(folder))
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] in temporary]:
            del sys.modules[name]
        sys.modules.update(hidden)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in self._names:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update(_PROVIDED.get(module.__name__, {}))


class _StandIn(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def unavailable(*values: Any, **named: Any) -> Any:
            raise RuntimeError(f"{self.__name__}.{name} is a stand-in: it is not needed to run the network on a CPU")

        return unavailable


def _resnet50(
    replace_stride_with_dilation: Sequence[bool], pretrained: bool, norm_layer: Callable[[int], nn.Module]
) -> ResNet:
    """Ours in torchvision's signature, with the norms that the caller brings."""
    network = ResNet(ModelConfig(backbone="resnet50", dilation=replace_stride_with_dilation[-1]))
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FrozenBatchNorm2d):
                setattr(parent, name, norm_layer(child.weight.numel()))
    return network


class _IntermediateLayers(nn.Module):
    """torchvision's ``IntermediateLayerGetter`` for the network above: its outputs as a dictionary."""

    def __init__(self, network: ResNet, return_layers: Mapping[str, str]) -> None:
        super().__init__()
        self._modules.update(network._modules)
        self._forward = network.forward
        self._names = list(return_layers.values())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps [B, C, h, w] by name."""
        return dict(zip(self._names, self._forward(images), strict=True))


_PROVIDED: dict[str, dict[str, Any]] = {
    "torchvision": {"__version__": _TORCHVISION_VERSION},
    "torchvision.models": {"resnet50": _resnet50},
    "torchvision.models._utils": {"IntermediateLayerGetter": _IntermediateLayers},
}
