"""The one door to OpenCV, whose import changes where child processes look for shared libraries.

``import cv2`` (measured: 5.0.0.93) puts a folder and an empty element into ``LD_LIBRARY_PATH``. To the loader of Linux an
empty element is the working directory, so a program that is started later would load libraries that lie there.
"""

from __future__ import annotations

import os

_before = os.environ.get("LD_LIBRARY_PATH")
import cv2  # noqa: E402

if _before is None:
    os.environ.pop("LD_LIBRARY_PATH", None)
else:
    os.environ["LD_LIBRARY_PATH"] = _before

__all__ = ["cv2"]
