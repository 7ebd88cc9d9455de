"""A ratio that the artefact cannot run at is refused before an image is touched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.preprocessing import prepare
from tests.runtime.test_metadata import PLAIN

IMAGE = np.zeros((30, 40, 3), np.uint8)


def test_ratios() -> None:
    assert prepare([IMAGE], PLAIN, keep_ratio=0.3).keys() == {"images"}
    with pytest.raises(InputError, match=r"fixed at ρ = 0\.3 and cannot run at 0\.5"):
        prepare([IMAGE], PLAIN, keep_ratio=0.5)
    with pytest.raises(InputError, match="dense encoder"):
        prepare([IMAGE], dataclasses.replace(PLAIN, rho=None), keep_ratio=0.3)
