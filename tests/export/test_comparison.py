"""The comparison itself, on arrays: what is just within each tolerance passes, what is just beyond is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.export.comparison import compare
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.modeling import DetectorOutput
from sparse_detr_deploy.preprocessing import prepare
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.export.fixed_module import KEPT, QUERIES, RHO, SIZE, TOKENS, Fixed
from tests.export.hostile_checkpoints import CONFIG

WITHIN, BEYOND = 0.98, 1.02  # of a tolerance
# restated from test_tolerances, where they are pinned to the code: a canvas of 96×128 has boxes within 1.28 pixels
ALLOWED = {
    "float32": {"score": 1e-3, "box": 0.1, "raw": 2e-3, "token_score": 1e-3, "proposal": 4e-3},
    "float16": {"score": 0.01, "box": 1.28, "raw": 0.1, "token_score": 4e-3, "proposal": 0.01},
}
PRECISIONS = pytest.mark.parametrize("precision", ALLOWED)


def swapped(indices: NDArray[Any], image: int, out: int, into: int) -> None:
    """``into`` takes the place of ``out`` among ``indices`` of ``image``."""
    indices[image][indices[image] == out] = into


@PRECISIONS
@pytest.mark.parametrize("outputs", ["detections", "raw"])
def test_what_is_the_same_passes(precision: str, outputs: str) -> None:
    fixed = Fixed(precision, outputs)
    report = fixed.compare(fixed.found())
    assert dataclasses.replace(report, score=0.0, box_pixels=0.0) == VerificationReport(
        score_median=report.score_median, box_median=report.box_median
    )
    assert report.score < 1e-6
    assert report.box_pixels < 1e-4


def test_the_module_runs_on_what_the_file_ran_on() -> None:
    fixed = Fixed()
    found, feed = fixed.found(), {"images": np.random.default_rng(0).normal(size=(2, 3, *SIZE)).astype(np.float32)}
    fixed.compare(found, feed)
    ((images, sizes, ratio), options) = fixed.calls[0]
    np.testing.assert_array_equal(images, feed["images"])
    assert (sizes, ratio, options["auxiliary"]) == (None, RHO, True)
    np.testing.assert_array_equal(options["selected_tokens"], found["probe_indices"])
    np.testing.assert_array_equal(options["selected_proposals"], found["probe_proposals"])


def test_the_module_gets_normalised_pixels_where_the_file_takes_bytes() -> None:
    images = [synthetic_image(0, 96, 70), synthetic_image(1, 50, 128)]
    fixed = Fixed(padded=True, input_dtype="uint8")
    expected = prepare(images, dataclasses.replace(fixed.metadata, input_dtype="float32"))
    found = fixed.found()
    # as many tokens as the sizes of the images keep, of those that show them
    grid = fixed.model.grid(*SIZE, torch.from_numpy(expected["image_sizes"]))
    own = fixed.model.transformer.select(torch.from_numpy(fixed.scores), grid, RHO)
    fixed.compare({**found, "probe_indices": own.numpy()}, prepare(images, fixed.metadata))
    ((pixels, sizes, _), _) = fixed.calls[0]
    np.testing.assert_allclose(pixels, expected["images"], atol=1e-5)
    assert not pixels[0, :, :, 70:].any()
    assert not pixels[1, :, 50:].any()
    assert sizes.tolist() == [[96, 70], [50, 128]]


@PRECISIONS
def test_boxes(precision: str) -> None:
    """Each corner by itself, in pixels of its own side."""
    fixed, allowed = Fixed(precision), ALLOWED[precision]["box"]
    for corner, side in enumerate((128, 96, 128, 96)):
        found = fixed.found()
        found["boxes"][1, 7, corner] += WITHIN * allowed / side
        report = fixed.compare(found)
        assert report.box_pixels == pytest.approx(WITHIN * allowed, rel=1e-3)
        assert report.box_median < 1e-4
        found["boxes"][1, 7, corner] += (BEYOND - WITHIN) * allowed / side
        fixed.refuses(found, rf", image 1: .*box by {BEYOND * allowed:.3f} pixels \(allowed: {allowed:g}\)")


@PRECISIONS
@pytest.mark.parametrize("sign", [1, -1])
def test_scores(precision: str, sign: int) -> None:
    fixed, allowed = Fixed(precision), ALLOWED[precision]["score"]
    found = fixed.found()
    found["scores"][1, 7] += sign * WITHIN * allowed
    report = fixed.compare(found)
    assert report.score == pytest.approx(WITHIN * allowed, rel=1e-3)
    assert report.score_median < 1e-6
    found["scores"][1, 7] += sign * (BEYOND - WITHIN) * allowed
    fixed.refuses(found, rf", image 1: .*score differs by .* \(allowed: {allowed:g}\)")


@pytest.mark.parametrize(("name", "field"), [("scores", "score"), ("boxes", "box")])
def test_half_of_the_detections_of_float16(name: str, field: str) -> None:
    """Ten of twenty may be anywhere within the tolerance; the median is between the tenth and the eleventh."""
    fixed, allowed = Fixed("float16"), ALLOWED["float16"][field]
    unit = 1 / 128 if name == "boxes" else 1
    for share, count, passes in ((0.9, 9, True), (0.098, 20, True), (0.102, 20, False), (0.9, 11, False)):
        found = fixed.found()
        values = found[name][1, :count, 0] if name == "boxes" else found[name][1, :count]
        values += share * allowed * unit
        if passes:
            median = getattr(fixed.compare(found), f"{field}_median")
            assert median == pytest.approx(0 if count < 10 else share * allowed, rel=1e-2, abs=1e-4)
        else:
            fixed.refuses(found, ", image 1: half of the detections differ by ")


def test_half_of_the_detections_of_float32() -> None:
    """All of them may be near the tolerance."""
    fixed = Fixed()
    found = fixed.found()
    found["scores"] += WITHIN * 1e-3
    found["boxes"][..., 0] += WITHIN * 0.1 / 128
    report = fixed.compare(found)
    assert report.score_median == pytest.approx(WITHIN * 1e-3, rel=1e-3)
    assert report.box_median == pytest.approx(WITHIN * 0.1, rel=1e-3)


@PRECISIONS
@pytest.mark.parametrize("name", ["pred_logits", "pred_boxes"])
@pytest.mark.parametrize("sign", [1, -1])
def test_raw_outputs(precision: str, name: str, sign: int) -> None:
    fixed, allowed = Fixed(precision, "raw"), ALLOWED[precision]["raw"]
    found = fixed.found()
    found[name][1, 7, 2] += sign * WITHIN * allowed
    report = fixed.compare(found)
    assert report.raw == pytest.approx(WITHIN * allowed, rel=1e-3)
    assert report.raw_median == 0
    found[name][1, 7, 2] += sign * (BEYOND - WITHIN) * allowed
    fixed.refuses(found, rf": {name} differ by .* \(allowed: {allowed:g}\)")


@pytest.mark.parametrize("name", ["pred_logits", "pred_boxes"])
def test_half_of_the_raw_outputs_of_float16(name: str) -> None:
    """Of one image: the other's are the same."""
    fixed, allowed = Fixed("float16", "raw"), ALLOWED["float16"]["raw"]
    for share, part, passes in ((0.9, 0.45, True), (0.098, 1.0, True), (0.102, 1.0, False), (0.9, 0.55, False)):
        found = fixed.found()
        values = found[name][1].reshape(-1)
        values[: int(part * values.size)] += share * allowed
        if passes:
            assert fixed.compare(found).raw_median == pytest.approx(0 if part < 0.5 else share * allowed, rel=1e-2)
        else:
            fixed.refuses(found, rf": half of the {name} differ by .* or more \(allowed: {0.1 * allowed:g}\)")


@PRECISIONS
@pytest.mark.parametrize(("image", "scale"), [(0, 1.0), (1, 4.0)])
def test_token_scores(precision: str, image: int, scale: float) -> None:
    """Relative to the largest score of the image, or to 1 where that is less. A score that grows is selected still."""
    fixed, allowed = Fixed(precision), ALLOWED[precision]["token_score"]
    best = 0 if image == 0 else TOKENS - 1
    found = fixed.found()
    found["probe_scores"][image, best] += WITHIN * allowed * scale
    assert fixed.compare(found).token_score == pytest.approx(WITHIN * allowed, rel=1e-3)
    found["probe_scores"][image, best] += (BEYOND - WITHIN) * allowed * scale
    fixed.refuses(found, rf", image {image}: token scores differ by .* \(allowed: {allowed:g}\)")
    worst = TOKENS - 1 - best
    found = fixed.found()
    found["probe_scores"][image, worst] -= BEYOND * allowed * scale
    fixed.refuses(found, rf", image {image}: token scores differ by")


def test_tokens_are_the_highest_of_the_files_own_scores() -> None:
    """However little the next one is behind; equal ones may stand for each other."""
    fixed = Fixed()
    found = fixed.found()
    swapped(found["probe_indices"], 0, KEPT - 1, KEPT)
    fixed.refuses(found, r", image 0: a token of score \S+ is left out, but one of \S+ is selected")
    found["probe_scores"][0, KEPT] = found["probe_scores"][0, KEPT - 1] = (
        0.5 * fixed.scores[0, KEPT - 1 : KEPT + 1].sum()
    )
    fixed.scores = np.stack([found["probe_scores"][0], fixed.scores[1]])
    report = fixed.compare(found)
    assert (report.swapped_tokens, report.shared_tokens) == (1, 1 - 1 / KEPT)


def test_tokens_that_rounding_swaps() -> None:
    """The file's own scores, a little off, decide; two of image 1 have swapped, and that is what is told."""
    fixed = Fixed()
    fixed.scores[1, TOKENS - KEPT - 2 : TOKENS - KEPT + 2] = fixed.scores[1, TOKENS - KEPT] + np.float32(
        [0, 0, 1e-3, 1e-3]
    )
    found = fixed.found()
    found["probe_scores"][1, TOKENS - KEPT : TOKENS - KEPT + 2] -= 2e-3
    for out, into in ((TOKENS - KEPT, TOKENS - KEPT - 2), (TOKENS - KEPT + 1, TOKENS - KEPT - 1)):
        swapped(found["probe_indices"], 1, out, into)
    report = fixed.compare(found)
    assert (report.swapped_tokens, report.shared_tokens) == (2, 1 - 2 / KEPT)
    assert report.token_score == pytest.approx(2e-3 / 4, rel=1e-3)


def test_as_many_tokens_as_the_ratio_keeps() -> None:
    fixed = Fixed()
    found = fixed.found()
    found["probe_indices"][1, 0] = found["probe_indices"][1, 1]  # one of them twice
    fixed.refuses(found, ", image 1: 76 tokens are selected instead of 77")


@PRECISIONS
@pytest.mark.parametrize(("image", "scale"), [(0, 1.0), (1, 4.0)])
@pytest.mark.parametrize("by_the_best_class", [True, False])
def test_proposals(precision: str, image: int, scale: float, by_the_best_class: bool) -> None:
    """Only those whose logits are equal within rounding may swap, on the scale of the largest of the image, or of 1.

    What counts is the best class of a token, or the first one whatever the others say.
    """
    fixed, allowed = Fixed(precision), ALLOWED[precision]["proposal"]
    fixed.model.config = dataclasses.replace(CONFIG, eff_specific_head=by_the_best_class)
    last, other = (QUERIES - 1, QUERIES) if image == 0 else (TOKENS - QUERIES, TOKENS - QUERIES - 1)
    found, row = fixed.found(), fixed.proposals[image]
    swapped(found["probe_proposals"], image, last, other)
    row[other, 0] = -0.9
    if not by_the_best_class:
        fixed.proposals[..., 1] = np.arange(TOKENS)
    for share in (WITHIN, BEYOND):
        row[other, 3 if by_the_best_class else 0] = row[last, 0] - share * allowed * scale
        if share == WITHIN:
            report = fixed.compare(found)
            assert (report.swapped_proposals, report.shared_proposals) == (1, 1 - 1 / QUERIES)
        else:
            fixed.refuses(found, rf", image {image}: 1 proposals differ, with logits up to .* apart")


def test_a_proposal_twice() -> None:
    fixed = Fixed()
    found = fixed.found()
    found["probe_proposals"][1, 0] = found["probe_proposals"][1, 1]
    fixed.refuses(found, f", image 1: {QUERIES - 1} proposals instead of {QUERIES}")


@pytest.mark.parametrize(
    ("field", "outputs", "message"),
    [
        ("scores", "raw", ", image 0: token scores differ by nan"),
        ("proposals", "raw", ", image 0: .* proposals differ, with logits up to nan apart"),
        ("logits", "raw", ": pred_logits differ by nan"),
        ("boxes", "raw", ": pred_boxes differ by nan"),
        ("boxes", "detections", ", image 0: .*box by inf pixels"),
    ],
)
def test_a_module_that_gives_nan_agrees_with_nothing(field: str, outputs: str, message: str) -> None:
    fixed = Fixed(outputs=outputs)
    found = fixed.found()
    setattr(fixed, field, getattr(fixed, field).copy())
    getattr(fixed, field)[0] = np.nan
    fixed.refuses(found, message)


def test_the_worst_of_all_runs_is_reported() -> None:
    """Of two images and two runs; the second run is the better one."""
    fixed, report = Fixed(), VerificationReport()
    raw = Fixed(outputs="raw")
    for share in (0.8, 0.4):
        found = fixed.found()
        found["scores"][0, :15] += share * 1e-3
        found["boxes"][0, :15, 0] += share * 0.1 / 128
        found["probe_scores"][0, 0] += share * 1e-3
        images = np.zeros((2, 3, *SIZE), dtype=np.float32)
        compare(fixed.model, fixed.metadata, {"images": images}, RHO, found, report, "here")
        found = raw.found()
        found["pred_logits"][0] += share * 2e-3
        compare(raw.model, raw.metadata, {"images": images}, RHO, found, report, "here")
    expected = {"score": 8e-4, "box_pixels": 0.08, "raw": 1.6e-3, "token_score": 8e-4}
    expected |= {"score_median": 8e-4, "box_median": 0.08, "raw_median": 1.6e-3}
    assert {name: getattr(report, name) for name in expected} == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("precision", "fault"), [("float32", "NaN or infinity"), ("float16", "values that overflow")])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["boxes", "probe_scores"])
def test_outputs_that_are_not_finite(name: str, value: float, precision: str, fault: str) -> None:
    fixed = Fixed(precision)
    found = fixed.found()
    found[name][1].flat[5] = value
    fixed.refuses(found, f": the output {name} holds {fault}")
    assert fixed.calls == []


@pytest.mark.parametrize(
    ("precision", "remedy"),
    [
        (
            "float32",
            r"; nothing was published; report it with the checkpoint's architecture \(thin18\) .* onnxruntime$",
        ),
        ("float16", ": export with --precision fp32$"),
    ],
)
def test_what_to_do_is_told(precision: str, remedy: str) -> None:
    fixed = Fixed(precision, architecture="thin18")
    found = fixed.found()
    found["scores"][0, 0] += 0.2
    fixed.refuses(found, f".*score differs by .*{remedy}")


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"), MemoryError()])
def test_no_memory_for_the_module(error: Exception) -> None:
    fixed = Fixed()
    fixed.model.forward = _raising(error)  # type: ignore[method-assign]
    with pytest.raises(BackendError, match=r"^here: not enough memory .*: export with a smaller --batch or --size"):
        fixed.compare(fixed.found())


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), ValueError("can't allocate")])
def test_other_errors_of_the_module_stay_what_they_are(error: Exception) -> None:
    fixed = Fixed()
    fixed.model.forward = _raising(error)  # type: ignore[method-assign]
    with pytest.raises(type(error), match=str(error)):
        fixed.compare(fixed.found())


def _raising(error: Exception) -> Callable[..., DetectorOutput]:
    def forward(*_: Any, **__: Any) -> DetectorOutput:
        raise error

    return forward


@pytest.mark.parametrize("two_stage", [True, False])
def test_dense_and_one_stage_models_have_less_to_compare(two_stage: bool) -> None:
    """No tokens are selected by a dense encoder, no proposals by one stage."""
    fixed = Fixed(rho=None)
    whole = fixed.model.forward()
    proposals = whole.proposals if two_stage else None
    fixed.model.forward = lambda *_, **__: dataclasses.replace(whole, token_scores=None, proposals=proposals)  # type: ignore[method-assign]
    found = fixed.found()
    del found["probe_scores"], found["probe_indices"]
    if not two_stage:
        del found["probe_proposals"]
    report = fixed.compare(found)
    assert (report.token_score, report.swapped_tokens, report.shared_tokens) == (0.0, 0, 1.0)
    found["scores"][0, 3] += 0.01
    fixed.refuses(found, ", image 0: .*score differs by")
