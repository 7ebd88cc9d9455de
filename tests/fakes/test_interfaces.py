"""The fakes against the real packages: every function, attribute, parameter and number that they have is there too.

What the packages have is kept in interfaces.json; that it is so is looked at where they can be fetched. The bindings of
full TensorRT are the real ones, linked to empty libraries: what they do cannot be had here, what they are called can.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.fakes.interfaces import PACKAGES, TENSORRT, fake_interface, faults, real_interface, stored


@pytest.mark.parametrize(("name", "version"), PACKAGES)
def test_the_fake_has_nothing_that_the_package_has_not(name: str, version: str) -> None:
    fake = fake_interface(name, version)
    assert sum(map(len, (fake["functions"], *fake["classes"].values(), *fake["enums"].values()))) >= 9
    assert faults(fake, stored()[f"{name} {version}"]) == []


@pytest.mark.network
@pytest.mark.parametrize(("name", "version"), PACKAGES)
def test_what_is_kept_is_what_the_package_has(name: str, version: str) -> None:
    """Else: ``python -m tests.fakes.interfaces``."""
    assert real_interface(name, version) == stored()[f"{name} {version}"]


def test_what_is_kept_is_complete() -> None:
    """So that a name which is new in a fake, or gone, is not overlooked."""
    for name, version in PACKAGES:
        fake, kept = fake_interface(name, version), stored()[f"{name} {version}"]
        assert fake["functions"].keys() == kept["functions"].keys()
        assert {title: set(members) for title, members in fake["classes"].items()} == {
            title: set(members) for title, members in kept["classes"].items()
        }
        assert {title: set(values) for title, values in fake["enums"].items()} == {
            title: set(values) for title, values in kept["enums"].items()
        }


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("functions", "get_plugin_registry"), [["which"]]),
        (("classes", "IOptimizationProfile", "set_shape"), [["input", "opt", "min", "max"]]),
        (("classes", "IBuilderConfig", "set_timing_cache"), [["cache"]]),
        (("classes", "IBuilderConfig", "create_timing_cache"), [["serialized_timing_cache="]]),
        (("classes", "IBuilderConfig", "clear_flag"), [["flag", "value"]]),
        (("classes", "IBuilderConfig", "progress_monitor"), [["monitor"]]),
        (("classes", "ICudaEngine", "num_io_tensors"), [[]]),
        (("classes", "Runtime", "__init__"), [[]]),
        (("enums", "DataType", "HALF"), 2),
        (("enums", "BuilderFlag", "TF33"), 6),
    ],
)
def test_a_fake_that_differs_is_found(place: tuple[str, ...], value: Any) -> None:
    name, version = PACKAGES[0]
    fake = copy.deepcopy(fake_interface(name, version))
    *parents, last = place
    owner = fake
    for key in parents:
        owner = owner[key]
    owner[last] = value
    assert len(faults(fake, stored()[f"{TENSORRT} {version}"])) == 1
