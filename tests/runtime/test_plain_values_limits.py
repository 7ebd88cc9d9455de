"""The limits of values themselves are still taken."""

from __future__ import annotations

import pytest

from sparse_detr_deploy.plain_values import check_plain


def test_as_many_values_as_there_may_be() -> None:
    value = [[1, 2], {"a": 3}]  # two, two, and a key and its value
    check_plain(value, most_values=6)
    with pytest.raises(ValueError, match="more than 5 values"):
        check_plain(value, most_values=5)
