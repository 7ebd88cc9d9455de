"""What every runtime backend offers."""

from __future__ import annotations

from typing import Any, Protocol

from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.preprocessing import Feed


class Runner(Protocol):
    """Runs one artefact. Thread-safe."""

    metadata: Metadata

    def run(self, feed: Feed) -> Feed:
        """Outputs by name from inputs by name; arrays as described in :class:`~sparse_detr_deploy.metadata.Metadata`."""

    def describe(self) -> dict[str, Any]:
        """Backend, version, provider, threads and kernels, for reports."""

    def close(self) -> None:
        """Free what the backend holds."""
