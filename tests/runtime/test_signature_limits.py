"""Feeds without a batch to count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.signature import check_feed, check_outputs
from tests.runtime.test_signature import METADATA


@pytest.mark.parametrize("array", [np.array(1.0, np.float32), [1.0], None])
def test_what_has_no_batch(array: Any) -> None:
    with pytest.raises(InputError, match="images is "):
        check_feed({"images": array}, METADATA)
    with pytest.raises(InputError, match="boxes is "):
        check_outputs({"boxes": array, "scores": array, "labels": array}, METADATA, 1)
