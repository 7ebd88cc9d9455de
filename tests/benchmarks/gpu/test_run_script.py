"""The script that does it all, with commands that only write down how they were called."""

import shutil
import subprocess

from tests.benchmarks.gpu.stand_ins import ROOT


def run_script(tmp_path, *, nvidia_smi):
    """``run.sh`` with commands that only write down how they were called."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("cmake", "python3", "compute-sanitizer", *(["nvidia-smi"] if nvidia_smi else [])):
        script = commands / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\ncase "$*" in *compute_cap*) echo 9.0;; esac\n'
        )
        script.chmod(0o755)
    for name in (
        "bash",
        "sh",
        "env",
        "dirname",
        "mkdir",
        "timeout",
        "tee",
        "tail",
        "head",
        "tr",
        "cat",
        "basename",
        "mktemp",
        "realpath",
        "rm",
    ):
        (commands / name).symlink_to(shutil.which(name))
    environment = {
        "PATH": str(commands),
        "OUT": str(tmp_path / "out"),
        "BUILD": "build/none",
        "PEERS": str(tmp_path / "peers"),
    }
    result = subprocess.run(
        [str(ROOT / "benchmarks/gpu/run.sh")], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
    return result, calls


def test_the_script_stops_where_there_is_no_gpu(tmp_path):
    result, calls = run_script(tmp_path, nvidia_smi=False)
    assert result.returncode == 7
    assert "no NVIDIA GPU" in result.stderr
    assert calls == []


def test_the_script_measures_our_kernels_before_those_of_others(tmp_path):
    result, calls = run_script(tmp_path, nvidia_smi=True)
    assert result.returncode == 0, result.stdout + result.stderr
    steps = [call.split(" -m ")[1].split()[0] for call in calls if call.startswith("python3 -m")]
    assert steps[-3:] == ["benchmarks.gpu.kernel_table", "benchmarks.gpu.peer_build", "benchmarks.gpu.peer_table"]
    assert f"{tmp_path}/peers" in calls[-2]
    assert "--architecture 90" in calls[-2]
    assert f"--json {tmp_path}/out/peers.json" in calls[-1]
