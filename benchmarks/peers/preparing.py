"""From the settings to the entries: exports, the floor, and what is left out because it is not installed or given."""

from __future__ import annotations

import importlib.util
import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.benchmarks.peers.entries import (
    BODIES,
    EAGER,
    FLOOR,
    FUSED,
    OPENVINO,
    ORIGINAL,
    OURS,
    PRODUCTS_ALONE,
    SAME_OPTIONS,
    STOCK,
    TRANSFORMERS,
    Entry,
)
from sparse_detr_deploy.benchmarks.peers.settings import Settings
from sparse_detr_deploy.child_processes import spawning
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.metadata import IMAGENET_MEAN, IMAGENET_STD
from sparse_detr_deploy.synthetic_image import synthetic_image

P = ParamSpec("P")
T = TypeVar("T")


def in_child(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a process of its own, so that its memory is free again afterwards."""
    context = multiprocessing.get_context("spawn")
    with (
        spawning(),
        ProcessPoolExecutor(1, context, initializer=warnings.simplefilter, initargs=("ignore",)) as pool,
    ):
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            raise BackendError(
                f"the process of {function.__name__} was killed, which mostly means that memory ran out: "
                "free some, or compare at a smaller --size"
            ) from None


def network_input(height: int, width: int) -> NDArray[np.float32]:
    """A synthetic image as the networks take it: float32 [1, 3, H, W], RGB, normalised."""
    rgb = synthetic_image(0, height, width)[:, :, ::-1].astype(np.float32) / 255
    normalised = (rgb - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], dtype=np.float32)


class Preparation:
    """Exports into a folder and collects the entries.

    Attributes:
        image: the input of every entry, a ``.npy`` file.
        entries: what takes part.
        floors: what :func:`~sparse_detr_deploy.benchmarks.peers.floor.build_floor` tells, by keep ratio.
        changes: what was changed in peers, by family.
        sha256s: checksums of the files, by path.
        left_out: what does not take part, and why.
    """

    def __init__(self, settings: Settings, folder: Path, reuse: bool, say: Callable[[str], None]) -> None:
        """Export everything.

        Args:
            settings: what.
            folder: where to.
            reuse: take files of ours and of the original that are there as they are.
            say: told what is done.

        Raises:
            VerificationError: an artefact of ours is wrong.
        """
        self._settings, self._reuse, self._say = settings, reuse, say
        self._folder = folder / f"seed{settings.seed}"
        self._folder.mkdir(exist_ok=True)
        self._size = (settings.height, settings.width)
        self._openvino = importlib.util.find_spec("openvino") is not None
        self.image = self._folder / f"image_{settings.height}x{settings.width}.npy"
        self.entries: list[Entry] = []
        self.floors: dict[float | None, dict[str, Any]] = {}
        self.changes: dict[str, str] = {}
        self.left_out: list[str] = []
        np.save(self.image, network_input(*self._size))
        if not self._openvino:
            self.left_out.append("OpenVINO: it is not installed (pip install 'sparse-detr-deploy[openvino]')")
        for rho in settings.all_rhos:
            self._ours(rho)
        if settings.original is None:
            self.left_out.append(
                "the original formulation: give a checkout of kakaobrain/sparse-detr as --original PATH"
            )
        else:
            for rho in settings.all_rhos:
                self._original(rho, settings.original)
        if importlib.util.find_spec("transformers") is None:
            self.left_out.append("Deformable DETR of transformers: it is not installed (pip install transformers)")
        else:
            self._transformers()
        paths = [entry.options["path"] for entry in self.entries if "path" in entry.options]
        self.sha256s = {path: sha256_of(Path(path)) for path in paths}

    def _add(self, family: str, runtime: str, rho: float | None, kind: str, options: dict[str, Any]) -> None:
        eager = runtime == EAGER
        if self._settings.eager_rounds or not eager:
            self.entries.append(Entry(family, runtime, rho, kind, options, eager))

    def _ours(self, rho: float | None) -> None:
        from sparse_detr_deploy.benchmarks.peers.floor import build_floor
        from sparse_detr_deploy.benchmarks.peers.ours import export_ours

        self._say(f"exporting and verifying ours, {_name(rho)}")
        seed = self._settings.seed
        calling, inlined = in_child(export_ours, seed, rho, *self._size, self._folder, self._reuse)
        self._add(OURS, FUSED, rho, "runner", {"path": str(calling), "native": True})
        self._add(OURS, BODIES, rho, "runner", {"path": str(calling), "native": False})
        if self._openvino:
            self._add(OURS, OPENVINO, rho, "openvino-runner", {"path": str(inlined)})
        self._add(OURS, EAGER, rho, "torch-ours", {"seed": seed, "rho": rho})
        floor = self._file("floor", rho)
        self.floors[rho] = in_child(build_floor, calling, floor)
        self._add(FLOOR, PRODUCTS_ALONE, rho, "onnxruntime", {"path": str(floor)})

    def _original(self, rho: float | None, checkout: Path) -> None:
        from sparse_detr_deploy.benchmarks.peers.original import CHANGE, export_original

        self._say(f"exporting the original, {_name(rho)}")
        seed = self._settings.seed
        path = self._file("original", rho)
        if not (self._reuse and path.exists()):
            in_child(export_original, checkout, seed, rho, *self._size, path)
        self._add(ORIGINAL, STOCK, rho, "onnxruntime", {"path": str(path)})
        self._add(ORIGINAL, SAME_OPTIONS, rho, "onnxruntime", {"path": str(path), "our_options": True})
        if self._openvino:
            self._add(ORIGINAL, OPENVINO, rho, "openvino", {"path": str(path)})
        self._add(ORIGINAL, EAGER, rho, "torch-original", {"seed": seed, "rho": rho, "checkout": str(checkout)})
        self.changes[ORIGINAL] = CHANGE

    def _transformers(self) -> None:
        from sparse_detr_deploy.benchmarks.peers.hf_transformers import CHANGE, export_transformers

        self._say("exporting Deformable DETR of transformers")
        path = self._file("transformers", None)
        try:
            refusal = in_child(export_transformers, *self._size, path)
        except Exception as error:
            # a peer that cannot be exported is a result, not the end
            self.left_out.append(f"Deformable DETR of transformers, ONNX Runtime: {type(error).__name__}: {error}")
        else:
            self._add(TRANSFORMERS, STOCK, None, "onnxruntime", {"path": str(path)})
            self._add(TRANSFORMERS, SAME_OPTIONS, None, "onnxruntime", {"path": str(path), "our_options": True})
            if refusal is not None:
                self.changes[TRANSFORMERS] = f"{CHANGE} ({refusal})"
        self._add(TRANSFORMERS, EAGER, None, "torch-transformers", {})

    def _file(self, family: str, rho: float | None) -> Path:
        return self._folder / f"{family}_{_name(rho)}_{self._size[0]}x{self._size[1]}.onnx"


def _name(rho: float | None) -> str:
    return "dense" if rho is None else f"rho{100 * rho:g}"
