"""What to compare, and how."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.tokens import check_keep_ratio


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to compare, and how.

    Attributes:
        height: rows of the image.
        width: columns of the image.
        rhos: keep ratios; a dense encoder comes in addition.
        threads: of every entry.
        rounds: turns of every entry but the eager ones.
        eager_rounds: turns of the eager ones; 0 leaves them out.
        warmup: runs of every entry that are not counted.
        seed: of the random weights.
        original: checkout of the original code.
    """

    height: int
    width: int
    rhos: tuple[float, ...]
    threads: int
    rounds: int
    eager_rounds: int
    warmup: int
    seed: int
    original: Path | None

    def __post_init__(self) -> None:
        for rho in self.rhos:
            check_keep_ratio(rho)
        for name, smallest in (("threads", 1), ("rounds", 1), ("eager_rounds", 0), ("warmup", 1)):
            if getattr(self, name) < smallest:
                raise InputError(f"{name} is {getattr(self, name)}, but at least {smallest} is needed")

    @property
    def all_rhos(self) -> tuple[float | None, ...]:
        """The keep ratios and dense (``None``)."""
        return (*self.rhos, None)
