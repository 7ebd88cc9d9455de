"""What differs from the module is not published: each kind of difference is found, and rounding is let pass."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.errors import BackendError, OutputError, VerificationError
from sparse_detr_deploy.export import pipeline, verification
from sparse_detr_deploy.export.comparison import compare
from sparse_detr_deploy.export.pipeline import export_artefacts
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.export.verification import verify
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.images import Image
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.preprocessing import Feed, prepare
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.conftest import SIZE, Export

SPEC = ExportSpec(*SIZE, rho=0.3, num_detections=20)
Change = Callable[[Feed], object]


def probed_run(path: Path, spec: ExportSpec, images: list[Image]) -> tuple[Metadata, Feed, Feed]:
    with verification._probed_file(onnx.load(path), spec) as probed:
        runner = OnnxRuntimeRunner(probed)
        feed = prepare(images, runner.metadata)
        return runner.metadata, feed, runner.run(feed)


@pytest.fixture(scope="module")
def detections_run(export_tiny: Export) -> tuple[Metadata, Feed, Feed]:
    return probed_run(export_tiny().path, SPEC, [synthetic_image(0, *SIZE)])


@pytest.fixture(scope="module")
def raw_run(export_tiny: Export) -> tuple[Metadata, Feed, Feed]:
    return probed_run(export_tiny(outputs="raw").path, SPEC, [synthetic_image(0, *SIZE)])


def compared(
    model: SparseDETR, run: tuple[Metadata, Feed, Feed], change: Change = lambda found: None
) -> VerificationReport:
    metadata, feed, found = run
    found = {name: array.copy() for name, array in found.items()}
    change(found)
    report = VerificationReport()
    compare(model, metadata, feed, 0.3, found, report, "here")
    return report


def test_what_was_exported_passes(
    tiny_model: SparseDETR, detections_run: tuple[Metadata, Feed, Feed], raw_run: tuple[Metadata, Feed, Feed]
) -> None:
    report = compared(tiny_model, detections_run)
    assert report.score < 1e-4
    assert report.box_pixels < 0.01
    assert compared(tiny_model, raw_run).raw < 1e-3


def test_the_scores_of_the_tokens_are_spread(detections_run: tuple[Metadata, Feed, Feed]) -> None:
    """Else the tests below would show nothing."""
    _, _, found = detections_run
    assert np.ptp(found["probe_scores"]) > 0.3
    assert np.ptp(found["scores"]) > 0.05
    assert len(np.unique(found["labels"])) > 1


def exchange_tokens(found: Feed) -> None:
    """The best token makes room for the worst."""
    scores, chosen = found["probe_scores"][0], found["probe_indices"][0]
    chosen[scores[chosen].argmax()] = scores.argmin()
    chosen.sort()


def exchange_proposals(found: Feed) -> None:
    chosen = found["probe_proposals"][0]
    chosen[0] = np.setdiff1d(np.arange(found["probe_scores"].shape[1]), chosen)[0]


def put(name: str, index: tuple[int, ...], value: float) -> Change:
    def change(found: Feed) -> None:
        found[name][index] = value

    return change


def add(name: str, index: object, value: float) -> Change:
    def change(found: Feed) -> None:
        found[name][index] += value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add("boxes", (0, 5, 0), -0.002), "box by 0.2"),
        (add("scores", (0, 19), 0.002), "score differs"),
        (add("labels", (0, 0), 1), "differs by"),
        (put("scores", (0, 0), np.nan), "scores holds NaN"),
        (put("boxes", (0, 3, 2), np.inf), "boxes holds NaN or infinity"),
        (add("probe_scores", (0, 7), 0.5), "token scores differ"),
        (exchange_tokens, "is left out"),
        (
            lambda found: found.update(probe_indices=found["probe_indices"][:, :-1]),
            "76 tokens are selected instead of 77",
        ),
        (lambda found: found.update(probe_indices=np.arange(78)[None]), "78 tokens are selected instead of 77"),
        (put("probe_proposals", (0, 0), 0), "proposals"),
        (exchange_proposals, "1 proposals differ"),
        (lambda found: found["scores"].sort(), "score differs"),
    ],
)
def test_a_wrong_output_is_found(
    change: Change, message: str, tiny_model: SparseDETR, detections_run: tuple[Metadata, Feed, Feed]
) -> None:
    with pytest.raises(VerificationError, match=f"here.*{message}"):
        compared(tiny_model, detections_run, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add("pred_logits", (0, 3, 1), 0.01), "pred_logits differ by 1.0"),
        (add("pred_boxes", (0, 3, 1), 0.01), "pred_boxes differ by 1.0"),
        (put("pred_logits", (0, 3, 1), np.nan), "pred_logits holds NaN"),
    ],
)
def test_a_wrong_raw_output_is_found(
    change: Change, message: str, tiny_model: SparseDETR, raw_run: tuple[Metadata, Feed, Feed]
) -> None:
    with pytest.raises(VerificationError, match=f"here.*{message}"):
        compared(tiny_model, raw_run, change)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("bbox_embed.1.layers.2.bias", "box by"),
        ("bbox_embed.0.layers.2.bias", "box by"),
        ("class_embed.1.weight", "score differs"),
        ("transformer.enc_mask_predictor.layer2.4.bias", "token scores differ"),
        ("transformer.encoder.layers.0.self_attn.value_proj.weight", "differ"),
        ("transformer.encoder.layers.1.linear2.bias", "differ"),
        ("transformer.decoder.layers.0.cross_attn.attention_weights.weight", "differ"),
        ("transformer.pos_trans.bias", "differ"),
        ("input_proj.3.0.weight", "differ"),
        ("backbone.0.body.layer4.1.conv2.weight", "differ"),
        ("transformer.level_embed", "differ"),
    ],
)
def test_a_parameter_that_was_not_carried_over_is_found(
    parameter: str, message: str, tiny_model: SparseDETR, detections_run: tuple[Metadata, Feed, Feed]
) -> None:
    """A little of one parameter in a model of many millions."""
    other = copy.deepcopy(tiny_model)
    values = other.state_dict()[parameter]
    generator = torch.Generator().manual_seed(0)
    values += 0.2 * torch.randn(values.shape, generator=generator)
    with pytest.raises(VerificationError, match=message):
        compared(other, detections_run)


def test_every_promised_batch_and_ratio_is_run(
    export_tiny: Export, tiny_model: SparseDETR, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those between too: the detector runs them for the last images of a list."""
    result = export_tiny(batch=(1, 2, 4))
    assert result.verification.batches == [1, 2, 3, 4]
    assert result.verification.keep_ratios == [0.3]
    native = native_ops.library_path() is not None
    assert result.verification.kernels == (["function bodies", "native"] if native else ["function bodies"])
    seen: list[tuple[int, float | None]] = []

    def watch(model: object, metadata: object, feed: Feed, ratio: float | None, *rest: object) -> None:
        seen.append((len(feed["images"]), ratio))

    monkeypatch.setattr(verification, "compare", watch)
    monkeypatch.setattr(native_ops, "library_path", lambda: None)
    spec = ExportSpec(*SIZE, rho=0.3, num_detections=20, batch=(1, 2, 4))
    verify(tiny_model, spec, onnx.load(result.path), result.metadata)
    assert seen == [(1, 0.3), (2, 0.3), (3, 0.3), (4, 0.3)]


@pytest.mark.parametrize(
    ("changes", "given_images", "count"),
    [
        ({}, None, 1),
        ({"batch": (1, 2, 4)}, None, 4),
        ({"padded": True}, None, 3),
        ({}, 5, 5),
        ({"batch": (2, 3, 4)}, 5, 5),
    ],
)
def test_images_are_counted_once(
    changes: dict,
    given_images: int | None,
    count: int,
    export_tiny: Export,
    tiny_model: SparseDETR,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not once for every batch, ratio and kernel that they are run at."""
    result = export_tiny(**changes)
    if given_images is None:
        assert result.verification.images == result.metadata.verification["images"] == count
        return
    monkeypatch.setattr(verification, "compare", lambda *arguments: None)
    images = [np.full((50, 60, 3), 40 * index, dtype=np.uint8) for index in range(given_images)]
    spec = ExportSpec(*SIZE, rho=0.3, num_detections=20, **changes)
    report, _ = verify(tiny_model, spec, onnx.load(result.path), result.metadata, images)
    assert report.images == count


def test_a_dynamic_artefact_is_run_at_several_ratios(dynamic_tiny: pipeline.ExportResult) -> None:
    assert dynamic_tiny.verification.keep_ratios == [0.1, 0.3, 1.0]
    assert dynamic_tiny.metadata.verification["keep_ratios"] == [0.1, 0.3, 1.0]


def test_every_image_is_looked_at(export_tiny: Export, tiny_model: SparseDETR, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(
        verification, "compare", lambda model, metadata, feed, *rest: seen.append(float(feed["images"].max()))
    )
    monkeypatch.setattr(native_ops, "library_path", lambda: None)
    images = [np.full((50, 60, 3), 40 * index, dtype=np.uint8) for index in range(5)]
    verify(tiny_model, SPEC, onnx.load(export_tiny().path), export_tiny().metadata, images)
    assert len(set(seen)) == 5


def test_padded_artefacts_are_verified_on_images_of_both_shapes(
    export_tiny: Export, tiny_model: SparseDETR, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[list[int]] = []
    monkeypatch.setattr(
        verification, "compare", lambda model, metadata, feed, *rest: sizes.extend(feed["image_sizes"].tolist())
    )
    monkeypatch.setattr(native_ops, "library_path", lambda: None)
    result = export_tiny(padded=True)
    spec = ExportSpec(*SIZE, rho=0.3, num_detections=20, padded=True)
    verify(tiny_model, spec, onnx.load(result.path), result.metadata)
    assert [96, 128] in sizes
    assert any(height < 96 and width == 128 for height, width in sizes)
    assert any(height == 96 and width < 128 for height, width in sizes)


def test_inlined_files_are_verified_themselves(export_tiny: Export) -> None:
    assert export_tiny(inline_functions=True).verification.kernels == ["inlined"]


def test_what_is_wrong_is_not_published(
    tiny_model: SparseDETR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export_tiny: Export
) -> None:
    wrong = copy.deepcopy(tiny_model)
    with torch.no_grad():
        wrong.class_embed[1].bias += 0.5
    proto = onnx.load(export_tiny().path)
    monkeypatch.setattr(pipeline, "export_onnx", lambda model, spec: copy.deepcopy(proto))
    with pytest.raises(
        VerificationError, match=r"thin18_rho30_96x128, batch 1, ρ 0\.3, function bodies, image 0: label \d"
    ):
        export_artefacts(wrong, [SPEC], tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(export_artefacts(tiny_model, [SPEC], tmp_path)) == 1


def test_no_space_for_temporary_files(
    tiny_model: SparseDETR, export_tiny: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    proto = onnx.load(export_tiny().path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"MB .*No space left on device.*TMPDIR"):
        verify(tiny_model, SPEC, proto, export_tiny().metadata)


def test_no_folder_for_temporary_files(
    tiny_model: SparseDETR, export_tiny: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container that is read-only has none at all."""
    proto = onnx.load(export_tiny().path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match=r"MB .*No such file or directory.*TMPDIR"):
        verify(tiny_model, SPEC, proto, export_tiny().metadata)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with pytest.raises(OutputError, match=r"MB .*No usable temporary directory.*TMPDIR"):
        verify(tiny_model, SPEC, proto, export_tiny().metadata)


def test_errors_of_what_is_done_with_the_temporary_file_stay(export_tiny: Export) -> None:
    with (
        pytest.raises(FileNotFoundError, match="something else"),
        verification._probed_file(onnx.load(export_tiny().path), SPEC),
    ):
        raise FileNotFoundError("something else")


@pytest.mark.parametrize(
    ("precision", "change", "message"),
    [
        (
            "float16",
            put("scores", (0, 0), np.inf),
            "scores holds values that overflow half precision.*--precision fp32$",
        ),
        ("float16", add("probe_scores", (0, 7), 0.5), "token scores differ.*--precision fp32$"),
        ("float16", add("scores", (0, 19), 0.2), "score differs.*--precision fp32$"),
        (
            "float32",
            put("scores", (0, 0), np.inf),
            "scores holds NaN or infinity.*nothing was published; report it.*thin18",
        ),
        ("float32", exchange_tokens, "is left out.*nothing was published; report it.*thin18"),
    ],
)
def test_what_to_do_is_told(
    precision: str,
    change: Change,
    message: str,
    tiny_model: SparseDETR,
    detections_run: tuple[Metadata, Feed, Feed],
) -> None:
    metadata, feed, found = detections_run
    run = (dataclasses.replace(metadata, precision=precision), feed, found)
    with pytest.raises(VerificationError, match=message):
        compared(tiny_model, run, change)


def test_no_memory_for_the_module(tiny_model: SparseDETR, detections_run: tuple[Metadata, Feed, Feed]) -> None:
    """PyTorch's own words on a tensor that no machine holds; other errors of it stay what they are."""
    large, faulty = copy.deepcopy(tiny_model), copy.deepcopy(tiny_model)
    large.register_forward_pre_hook(lambda *arguments: torch.empty(10**15) and None)
    with pytest.raises(BackendError, match=r"here.*not enough memory.*smaller --batch or --size"):
        compared(large, detections_run)
    faulty.register_forward_pre_hook(lambda *arguments: torch.ones(2) @ torch.ones(3) and None)
    with pytest.raises(RuntimeError, match="size"):
        compared(faulty, detections_run)


def test_a_file_that_does_not_load(tiny_model: SparseDETR, export_tiny: Export) -> None:
    proto = onnx.load(export_tiny().path)
    del proto.functions[:]
    with pytest.raises(VerificationError, match="ONNX Runtime does not load it"):
        verify(tiny_model, SPEC, proto, export_tiny().metadata)
