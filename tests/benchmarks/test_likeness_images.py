"""How many images precision was measured on, then and now."""

from __future__ import annotations

from sparse_detr_deploy.benchmarks.likeness import precision_hindrances
from tests.benchmarks.test_likeness import accurate


def test_other_numbers_of_images() -> None:
    old, new = accurate("val.json", 9), accurate("val.json", 4)
    pairs = list(zip(old.rows, new.rows, strict=True))
    assert precision_hindrances(old, new, pairs) == {
        "it was measured on 9 images, now on 4": ["r50_rho30_128x160 at ρ 0.3"]
    }
    assert precision_hindrances(old, old, pairs[:0]) == {}
