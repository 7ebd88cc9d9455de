from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.benchmarks.compare import parse_share
from sparse_detr_deploy.benchmarks.results import SCHEMA_VERSION, Report
from sparse_detr_deploy.errors import InputError
from tests.benchmarks.conftest import make_report, make_row


def compare(folder: Path, old: Report, new: Report, *arguments: str) -> Result:
    paths = []
    for name, report in (("old", old), ("new", new)):
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(report.to_json())
    return CliRunner().invoke(main, ["compare", *map(str, paths), *arguments], catch_exceptions=False)


def words(result: Result) -> str:
    """What was said to people, without the line breaks of a narrow terminal."""
    return " ".join(result.stderr.split())


def test_the_same_results(tmp_path: Path) -> None:
    result = compare(tmp_path, make_report(make_row()), make_report(make_row()), "--json")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert (row["time_ratio"], row["memory_ratio"], row["ap_change"], row["regressions"]) == (1.0, 1.0, None, [])


@pytest.mark.parametrize(
    ("new", "exit_code"),
    [
        ({"inference": [104.0] * 12}, 0),
        ({"inference": [106.0] * 12}, 8),
        ({"inference": [50.0] * 12}, 0),
        ({"peak_memory_mib": 310.0}, 0),
        ({"peak_memory_mib": 330.0}, 8),
        ({"accuracy": {"AP": 0.4505}}, 0),
        ({"accuracy": {"AP": 0.448}}, 8),
        ({"accuracy": {"AP": 0.6}}, 0),
        ({"accuracy": None}, 8),
        ({"accuracy": {"AP": None}}, 8),
        ({"peak_memory_mib": None}, 8),
    ],
)
def test_exit_code(new: dict[str, Any], exit_code: int, tmp_path: Path) -> None:
    old = make_report(make_row(accuracy={"AP": 0.451}))
    result = compare(tmp_path, old, make_report(make_row(**{"accuracy": {"AP": 0.451}, **new})))
    assert result.exit_code == exit_code, result.stderr
    assert ("worse than allowed" in result.stderr) == (exit_code == 8)


def test_allowed_regression(tmp_path: Path) -> None:
    old, new = make_report(make_row()), make_report(make_row([115.0] * 12))
    assert compare(tmp_path, old, new, "--max-regression", "20%").exit_code == 0
    assert compare(tmp_path, old, new, "--max-regression", "0.1").exit_code == 8


def test_what_the_new_results_lack_is_named_and_can_be_allowed(tmp_path: Path) -> None:
    old = make_report(make_row(accuracy={"AP": 0.451}))
    new = make_report(make_row(accuracy=None, peak_memory_mib=None))
    result = compare(tmp_path, old, new, "--json")
    assert result.exit_code == 8
    (row,) = json.loads(result.stdout)
    assert row["regressions"] == ["memory not measured any more", "AP not measured any more"]
    assert "--allow-missing" in result.stderr
    allowed = compare(tmp_path, old, new, "--allow-missing")
    assert allowed.exit_code == 0
    assert "r50_rho30_128x160 at ρ 0.3: AP not measured any more" in words(allowed)
    # what the old results lack is no loss
    assert compare(tmp_path, new, old).exit_code == 0


def test_rows_are_matched_by_name_and_keep_ratio(tmp_path: Path) -> None:
    old = make_report(make_row([100.0] * 12, rho=0.1), make_row([300.0] * 12, rho=0.5))
    new = make_report(
        make_row([300.0] * 12, rho=0.5), make_row([100.0] * 12, rho=0.1), make_row(name="added", rho=None)
    )
    result = compare(tmp_path, old, new)
    assert result.exit_code == 0
    assert "added is missing in the old results" in result.stderr


def test_rows_that_are_gone(tmp_path: Path) -> None:
    old, new = make_report(make_row(), make_row(name="gone")), make_report(make_row())
    result = compare(tmp_path, old, new, "--json")
    assert result.exit_code == 8
    assert "gone at ρ 0.3 is missing in the new results" in result.stderr
    assert "1 of 2 rows are worse than allowed" in words(result)
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == ["r50_rho30_128x160", "gone"]
    assert (rows[1]["new_p50_ms"], rows[1]["time_ratio"], rows[1]["regressions"]) == (
        None,
        None,
        ["not measured any more"],
    )
    allowed = compare(tmp_path, old, new, "--allow-missing")
    assert allowed.exit_code == 0
    assert "gone at ρ 0.3 is missing in the new results" in allowed.stderr


def test_another_machine(tmp_path: Path) -> None:
    result = compare(tmp_path, make_report(make_row()), make_report(make_row(), cpu="another processor"))
    assert result.exit_code == 0
    assert "cpu was a processor, now another processor" in result.stderr


UNSTABLE = [100.0] * 6 + [200.0] * 6


@pytest.mark.parametrize(("old", "new", "side"), [([100.0] * 12, UNSTABLE, "new"), ([50.0, 90.0] * 6, [900.0], "new")])
def test_unstable_times_are_not_counted(old: list[float], new: list[float], side: str, tmp_path: Path) -> None:
    reports = make_report(make_row(old)), make_report(make_row(new))
    for pair, where in ((reports, side), (reports[::-1], "old" if side == "new" else "new")):
        result = compare(tmp_path, *pair)
        assert result.exit_code == 0, result.stderr
        assert f"in the {where} results, so its time is not counted" in words(result)
        assert "r50_rho30_128x160 at ρ 0.3: " in words(result)
        assert "time not counted" in words(result)


@pytest.mark.parametrize("worse", [{"peak_memory_mib": 900.0}, {"accuracy": {"AP": 0.1}}])
def test_unstable_rows_still_count_otherwise(worse: dict[str, Any], tmp_path: Path) -> None:
    old = make_report(make_row(accuracy={"AP": 0.4}))
    result = compare(tmp_path, old, make_report(make_row(UNSTABLE, **{"accuracy": {"AP": 0.4}, **worse})))
    assert result.exit_code == 8


def test_time_of_another_batch_is_compared_per_image(tmp_path: Path) -> None:
    old = make_report(make_row([100.0] * 12))
    assert compare(tmp_path, old, make_report(make_row([190.0] * 12, batch=2))).exit_code == 0
    assert compare(tmp_path, old, make_report(make_row([230.0] * 12, batch=2))).exit_code == 8


def test_batches_of_one_file_are_matched_to_their_own(tmp_path: Path) -> None:
    one, two = make_row([100.0] * 12), make_row([150.0] * 12, batch=2)
    result = compare(tmp_path, make_report(one, two), make_report(two, one), "--json")
    assert [row["time_ratio"] for row in json.loads(result.stdout)] == [1.0, 1.0]
    assert compare(tmp_path, make_report(one, two), make_report(one)).exit_code == 8


def test_nothing_in_common(tmp_path: Path) -> None:
    result = compare(tmp_path, make_report(make_row()), make_report(make_row(name="other")))
    assert result.exit_code == 2
    assert "no row in common" in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"kind": "sparse_detr_deploy.benchmark", "schema_version": 99, "rows": []}',
        '{"kind": "sparse_detr_deploy.benchmark", "schema_version": 1, "rows": [{}]}',
        '{"kind": "sparse_detr_deploy.benchmark", "schema_version": 1, "rows": 3}',
    ],
)
def test_not_our_results(text: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(make_report(make_row()).to_json())
    bad.write_text(text)
    result = CliRunner().invoke(main, ["compare", str(good), str(bad)], catch_exceptions=False)
    assert result.exit_code == 2
    assert "bad.json" in result.stderr


def test_results_without_samples(tmp_path: Path) -> None:
    document = json.loads(make_report(make_row()).to_json())
    document["rows"][0]["samples_ms"]["inference"] = []
    path = tmp_path / "empty.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="damaged"):
        Report.read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Report.read(tmp_path / "none.json")


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    report = make_report(make_row(accuracy={"AP": 0.5, "images": 3}), make_row(rho=None, gmacs=None))
    path = tmp_path / "results.json"
    path.write_text(report.to_json())
    assert Report.read(path) == report
    assert json.loads(report.to_json())["schema_version"] == SCHEMA_VERSION


def test_parse_share() -> None:
    assert parse_share("5%") == pytest.approx(0.05)
    assert parse_share("0.2") == pytest.approx(0.2)
    assert parse_share(" 12.5 % ") == pytest.approx(0.125)
    assert parse_share("0") == 0


@pytest.mark.parametrize("text", ["", "five", "-5%", "5%%", "nan", "inf", "1e3"])
def test_bad_share(text: str) -> None:
    with pytest.raises(InputError, match="allowed regression"):
        parse_share(text)


def test_bad_share_at_the_command_line(tmp_path: Path) -> None:
    result = compare(tmp_path, make_report(make_row()), make_report(make_row()), "--max-regression", "much")
    assert result.exit_code == 2
