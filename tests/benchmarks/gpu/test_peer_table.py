"""Rows of the tables and what their files say; everything on host memory, with stand-ins."""

import functools
import json
import types

import pytest
import torch

from benchmarks.gpu import kernel_table, peer_rows, peer_table
from benchmarks.gpu.cases import attention_case
from benchmarks.gpu.peer_attention import PEER_KERNELS, grid_sample_attention
from benchmarks.gpu.peer_report import summary, table_lines
from benchmarks.gpu.peer_rows import attention_row
from sparse_detr_deploy.modeling.ops import ms_deform_attn
from tests.benchmarks.gpu.stand_ins import HostKernels, case_of, host_stopwatch


def our_twin(case, output):
    output.copy_(ms_deform_attn(*case.inputs))


def test_a_row_holds_every_peer_with_its_ratio_or_a_reason(libraries):
    cases = [case_of(7, seed=seed) for seed in range(2)]
    row = attention_row(cases, our_twin, libraries, host_stopwatch, rounds=2, warm_up=0)
    assert (row["op"], row["queries"], row["type"], row["input_sets"]) == ("MSDeformAttn", 7, "float32", 2)
    assert set(row["peers"]) == {*PEER_KERNELS, "grid_sample"}
    assert row["peers"]["original_template_float16"] == {"left_out": "the kernel has no float32"}
    for name in ("original", "tensorrt", "dcnv4", "dcnv4_padded"):
        peer = row["peers"][name]
        assert (peer["ratio"], peer["ratio_prepared"], peer["note"]) == (1.0, 2.0, "computes in float32")
        assert 0 <= peer["error"] < 1e-5
    assert "prepare_us" not in row["peers"]["grid_sample"]
    text = "\n".join(table_lines({"rows": [{"case": "test", **row}], "left_out": [], "summary": summary([row])}))
    assert "dcnv4: 5.00 ± 0.00 µs, ×1.00; prepared by torch in 5.00 µs, together ×2.00" in text
    assert "original_template_float16: left out: the kernel has no float32" in text
    json.dumps(row, allow_nan=False)


def test_what_a_kernel_refuses_becomes_its_reason(libraries):
    half = attention_row([case_of(7, torch.float16)], our_twin, libraries, host_stopwatch, rounds=2, warm_up=0)["peers"]
    assert half["tensorrt"] == {"left_out": "the kernel does not offer this type or method"}
    assert half["original"]["note"] == "computes in float32"
    absent = {**libraries, "tensorrt": "there is no checkout", "dcnv4": libraries["tensorrt"]}
    peers = attention_row([case_of(7)], our_twin, absent, host_stopwatch, rounds=2, warm_up=0)["peers"]
    assert peers["tensorrt"] == {"left_out": "there is no checkout"}
    assert "refuses these sizes" in peers["dcnv4"]["left_out"]
    failed = attention_row([case_of(13)], our_twin, libraries, host_stopwatch, rounds=2, warm_up=0)["peers"]
    assert "CUDA error 700" in failed["original"]["left_out"]


def test_the_summary_is_of_half_precision_and_leaves_preparation_out():
    def row(dtype, **ratios):
        return {
            "op": "MSDeformAttn",
            "type": dtype,
            "peers": {name: {"ratio": ratio} for name, ratio in ratios.items()},
        }

    rows = [
        row("float16", original=4.0, original_template_float16=1.0, tensorrt=2.0, dcnv4=1.5),
        row("bfloat16", original=3.5, dcnv4=1.3),
        row("float32", original=1.0, dcnv4=0.5),
    ]
    told = summary([*rows, {"op": "SelectTokens", "type": "float32", "peers": {}}])
    assert (told["least_ratio_original"], told["least_ratio_best_other"]) == (3.5, 1.3)
    assert summary([])["least_ratio_original"] is None


@pytest.fixture
def host_table(libraries, monkeypatch, tmp_path):
    """The whole table on host memory: two small cases, a stopwatch of its own, torch.compile without code generation."""
    properties = types.SimpleNamespace(name="a GPU", major=9, minor=0)
    compiled = torch.compile(grid_sample_attention, backend="eager")
    for module, name, value in (
        (torch.cuda, "get_device_properties", lambda _: properties),
        (peer_table, "DEVICE", "cpu"),
        (peer_table, "WORK", [("encoder", 7, False), ("decoder", 5, True)]),
        (peer_table, "RATIOS", (0.1, 0.3, 0.5)),
        (peer_table, "queries_at", lambda ratio: 200),
        (peer_table, "SCORE_SETS", 1),
        (peer_table, "MOST_TOKENS", 900),
        (peer_table, "graph_stopwatch", host_stopwatch),
        (peer_table, "compiled_grid_sample", lambda: compiled),
        (peer_table, "attention_sets", lambda queries, dtype, box: [case_of(queries, dtype, box=box)]),
    ):
        monkeypatch.setattr(module, name, value)
    for function in (peer_rows.attention_row, peer_rows.compiled_peer, peer_rows.compare):
        monkeypatch.setitem(function.__kwdefaults__, "rounds", 1)
        monkeypatch.setitem(function.__kwdefaults__, "warm_up", 0)
    return lambda budget: peer_table.PeerTable(HostKernels(), libraries, tmp_path / "peers.json", budget)


def test_the_table_goes_from_half_precision_to_the_rest_and_compiles_last(host_table, tmp_path):
    table = host_table(1000)
    table.run()
    report = json.loads((tmp_path / "peers.json").read_text(), parse_constant=pytest.fail)
    rows = report["rows"]
    kinds = [(row["op"], row["type"]) for row in rows]
    half, rest = [("MSDeformAttn", "float16")] * 2, [("SelectTokens", "float32")] * 9
    assert kinds == [*half, *rest, *[("MSDeformAttn", "float32")] * 2, *[("MSDeformAttn", "bfloat16")] * 2]
    assert {(row["batch"], row["tokens"]) for row in rows[2:11]} == {(1, 200), (4, 200), (1, 900)}
    compiled = rows[0]["peers"]["compiled_grid_sample"]
    assert (compiled["ratio"], compiled["ours_us"]) == (1.0, 5.0)
    assert "float16 only" in rows[-1]["peers"]["compiled_grid_sample"]["left_out"]
    assert report["summary"]["least_ratio_original"] == 1.0
    assert report["left_out"] == []
    assert "SelectTokens ρ 0.1 (21 of 200, batch 4) float32: 5.00" in "\n".join(table_lines(report))


def test_what_the_time_does_not_allow_is_named(host_table, tmp_path):
    table = host_table(0)
    table.run()
    report = json.loads((tmp_path / "peers.json").read_text())
    assert report["rows"] == []
    assert len(report["left_out"]) == 15
    assert "MSDeformAttn encoder float16" in report["left_out"][0]["row"]
    assert "not measured" in "\n".join(table_lines(report))


def test_our_own_table_says_how_many_input_sets_a_time_is_of(monkeypatch):
    monkeypatch.setattr(kernel_table, "time_calls", lambda calls, in_graph=True: 2.0 * len(calls))
    monkeypatch.setattr(kernel_table, "cache_size", lambda: 1)
    monkeypatch.setattr(kernel_table, "attention_case", functools.partial(attention_case, device="cpu"))
    monkeypatch.setattr(kernel_table, "RATIOS", (0.1,))
    monkeypatch.setattr(kernel_table, "queries_at", lambda ratio: 3)
    monkeypatch.setattr(kernel_table, "DECODER_QUERIES", 2)
    rows = kernel_table.attention_rows(HostKernels(), 1e12, None)
    assert {(row["case"], row["queries"], row["input_sets"], row["us"]) for row in rows} == {
        ("encoder ρ 0.1", 3, 4, 8.0),
        ("decoder", 2, 4, 8.0),
    }
    assert {row["type"] for row in rows} == {"float32", "float16", "bfloat16"}
