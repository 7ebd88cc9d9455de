"""Engines against the ONNX files that they were built from: ``python -m benchmarks.gpu.engine_parity ENGINE… --json FILE``.

Beside each engine lies its ONNX file, which ONNX Runtime runs on the CPU. A dense engine must find the same detections;
a sparse one may swap tokens of equal score, and with random weights what lies behind them moves: the share is told.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sparse_detr_deploy import Detections, Detector, SparseDetrError
from sparse_detr_deploy.synthetic_image import synthetic_image

from .json_file import check_json, write_json

IMAGES = 4
TOLERANCES = {"fp32": (1e-3, 0.1), "fp16": (2e-2, 2.0)}  # score, and pixels of a box


def matched(expected: Detections, found: Detections, score: float, pixels: float) -> float:
    """Share of the expected detections that are found with the same label, within the tolerances."""
    count = 0
    free = np.ones(len(found), dtype=bool)
    for index in range(len(expected)):
        fits = free & (found.labels == expected.labels[index])
        fits &= np.abs(found.scores - expected.scores[index]) <= score
        fits &= np.abs(found.boxes - expected.boxes[index]).max(axis=1) <= pixels
        if fits.any():
            free[np.flatnonzero(fits)[0]] = False
            count += 1
    return count / max(1, len(expected))


def compare(engine: Path) -> dict[str, Any]:
    """One row of the table: shares of matched detections when enqueued, and when launched as a CUDA graph."""
    with Detector.load(engine.with_suffix(".onnx")) as reference, Detector.load(engine) as detector:
        described = detector.describe()
        score, pixels = TOLERANCES[described["precision"]]
        size = (detector.metadata.height, detector.metadata.width)
        images = [synthetic_image(seed, *size) for seed in range(IMAGES)]
        expected = [reference(image) for image in images]
        shares = []
        for _ in range(3):  # enqueued, captured, launched
            found = [detector(image) for image in images]
            pairs = zip(expected, found, strict=True)
            shares.append(float(np.mean([matched(one, other, score, pixels) for one, other in pairs])))
        return {
            "engine": engine.name,
            "rho": detector.metadata.rho,
            "runtime": detector.describe(),
            "matched": shares,
            "tolerances": {"score": score, "pixels": pixels},
        }


def main() -> int:
    """Compare all; exit code 5 if a dense engine differs, 7 if one does not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    if options.json:
        check_json(options.json)
    rows: list[dict[str, Any]] = []
    code = 0
    for engine in options.engines:
        try:
            rows.append(compare(engine))
        except SparseDetrError as error:
            rows.append({"engine": engine.name, "refused": str(error)})
            code = code or 7
        else:
            if rows[-1]["rho"] is None and min(rows[-1]["matched"]) < 1:
                code = 5
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        write_json(options.json, rows)
    if code:
        print("not all engines run and agree: see above", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
