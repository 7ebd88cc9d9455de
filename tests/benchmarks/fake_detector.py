"""A detector whose parts take the time that a fake clock is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeDetector:
    """Records its calls; odd ones take ``first`` times as long."""

    def __init__(
        self,
        clock: FakeClock,
        preprocess: float = 0.0,
        inference: float = 0.0,
        postprocess: float = 0.0,
        first: float = 1.0,
    ) -> None:
        self._clock, self._seconds, self._first = clock, (preprocess, inference, postprocess), first
        self.name = ""
        self.calls: list[tuple[Any, ...]] = []
        self.sizes: list[Sequence[tuple[int, ...]]] = []
        self.runner = self  # run() below

    def _pass(self, part: int) -> None:
        self._clock.now += self._seconds[part] * (self._first if len(self.calls) % 2 else 1.0)

    def preprocess(self, images: Sequence[Any], keep_ratio: float | None) -> dict[str, Any]:
        of = (self.name,) if self.name else ()
        self.calls.append((*of, keep_ratio, tuple(int(image[0, 0, 0]) for image in images)))
        self._pass(0)
        return {"images": len(images)}

    def run(self, feed: dict[str, Any]) -> dict[str, Any]:
        assert feed["images"] == len(self.calls[-1][-1])
        self._pass(1)
        return {"outputs": feed["images"]}

    def postprocess(self, outputs: dict[str, Any], image_sizes: Sequence[tuple[int, ...]]) -> list[Any]:
        assert outputs["outputs"] == len(image_sizes)
        self.sizes.append(list(image_sizes))
        self._pass(2)
        return []
