"""TensorRT and TensorRT-RTX as Python modules: their API is nearly the same, so one builder serves both."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
from typing import Any

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.export.engine.gpu import Driver, query_driver
from sparse_detr_deploy.export.engine.spec import TENSORRT, TENSORRT_RTX, EngineSpec

KEEPS_BODIES_FROM = (10, 15)  # older parsers take a function body even where its plugin is registered


@dataclasses.dataclass(frozen=True)
class Flavour:
    """How a flavour is called, where it comes from, and the oldest version that serves."""

    title: str
    module: str
    extra: str
    oldest: tuple[int, int]
    reason: str

    @property
    def mend(self) -> str:
        """The command that installs it."""
        return f"pip install 'sparse-detr-deploy[{self.extra}]'"


FLAVOURS = {
    TENSORRT: Flavour("TensorRT", "tensorrt", "tensorrt", (10, 8), "the plugins need their namespace on the node"),
    TENSORRT_RTX: Flavour("TensorRT-RTX", "tensorrt_rtx", "rtx", (1, 7), "older ones were not tested"),
}


def load_flavour(name: str) -> Any:
    """Import the module of flavour ``name``. Raises :class:`BackendError`: not installed, does not load, or too old."""
    flavour = FLAVOURS[name]
    if importlib.util.find_spec(flavour.module) is None:
        raise BackendError(f"{flavour.title} is not installed: {flavour.mend}")
    try:
        module = importlib.import_module(flavour.module)
    except Exception as error:  # a missing library of CUDA, a build for another Python
        raise BackendError(f"{flavour.title} is installed but does not load ({error}): {flavour.mend}") from error
    if version_of(module) < flavour.oldest:
        oldest = ".".join(map(str, flavour.oldest))
        raise BackendError(
            f"{flavour.title} {module.__version__} is too old: {oldest} or newer is needed ({flavour.reason}); "
            f"{flavour.mend} --upgrade"
        )
    return module


def version_of(module: Any) -> tuple[int, int]:
    """(major, minor) of a loaded flavour."""
    numbers = re.findall(r"\d+", module.__version__)
    return int(numbers[0]), int(numbers[1])


def check_machine(spec: EngineSpec) -> Driver:
    """What the driver tells; raises :class:`BackendError` where ``spec`` cannot be built on this machine."""
    driver = query_driver()
    if spec.flavour == TENSORRT and driver.problem is not None:
        raise BackendError(
            f"TensorRT times its kernels on a GPU while it builds, but {driver.problem}: build on the machine that will "
            "run the engine, or take --engine tensorrt-rtx, which builds without a GPU"
        )
    return driver
