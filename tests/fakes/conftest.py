"""Only tests marked so fetch."""

from tests.plugins.packages import pytest_runtest_setup, pytest_runtest_teardown  # noqa: F401
