"""How the command-line programs end: errors as messages, Ctrl-C and SIGTERM in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sparse_detr_deploy.cli_support import EXIT_CODES, printable, reports_errors
from sparse_detr_deploy.errors import InputError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
PROGRAM = """
import multiprocessing, os, signal, sys, tempfile, time
from sparse_detr_deploy.cli_support import printable, reports_errors
{before}
@reports_errors
def main():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        {body}
main()
"""
WAIT = "print('now', flush=True); time.sleep(60)"


def terminated(folder: Path, body: str = WAIT, before: str = "") -> subprocess.CompletedProcess[str]:
    """A program that is sent SIGTERM once it has said 'now'."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body, before=before), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # of a program that hangs nothing stays
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess([], process.returncode, stdout, stderr)


@posix
@pytest.mark.parametrize(
    "before",
    [
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",  # as programs in the background of a shell have it
    ],
)
def test_sigterm_is_an_orderly_end(before: str, tmp_path: Path) -> None:
    done = terminated(tmp_path, before=before)
    assert (done.returncode, done.stderr) == (143, "terminated; nothing half-written is left\n")
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_second_sigterm_does_not_disturb_the_clean_up(tmp_path: Path) -> None:
    """``timeout`` sends two."""
    body = (
        "try: print('now', flush=True); time.sleep(60)\n"
        "        finally: os.kill(os.getpid(), signal.SIGTERM); print('cleaned', flush=True)"
    )
    done = terminated(tmp_path, body)
    assert (done.returncode, done.stdout) == (143, "cleaned\n")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@posix
def test_what_ctrl_c_does_is_done(tmp_path: Path) -> None:
    """Where Ctrl-C only sets a flag, as during the build of an engine, SIGTERM sets it too."""
    before = "asked = []; signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))"
    body = (
        "print('now', flush=True)\n"
        "        while not asked: time.sleep(0.01)\n"
        "        print('stopped', flush=True); raise KeyboardInterrupt"
    )
    done = terminated(tmp_path, body, before)
    assert (done.returncode, done.stdout) == (143, "stopped\n")


@posix
def test_sigterm_that_is_ignored_stays_so(tmp_path: Path) -> None:
    body = "print('now', flush=True); time.sleep(0.5); print('whole')"
    done = terminated(tmp_path, body, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert (done.returncode, done.stdout) == (0, "whole\n")


@posix
@pytest.mark.parametrize("interrupt", ["signal.default_int_handler", "signal.SIG_IGN"])
def test_processes_that_were_started_end_too(interrupt: str, tmp_path: Path) -> None:
    """The program would wait for them."""
    body = (
        "child = multiprocessing.get_context('spawn').Process(target=time.sleep, args=(600,))\n"
        "        child.start(); time.sleep(0.5); print('now', flush=True); child.join()"
    )
    done = terminated(tmp_path, body, f"signal.signal(signal.SIGINT, {interrupt})")
    assert done.returncode == 143
    assert "terminated; nothing half-written is left\n" in done.stderr
    assert list(tmp_path.iterdir()) == []


@posix
def test_processes_that_ctrl_c_does_not_end_are_terminated(tmp_path: Path) -> None:
    """Python now and then loses a Ctrl-C that comes while it imports; the program would wait for ever."""
    deaf = "import signal, time; signal.signal(2, signal.SIG_IGN); print('now', flush=True); time.sleep(600)"
    body = (
        f"child = multiprocessing.get_context('spawn').Process(target=exec, args=({deaf!r},))\n"
        "        child.start()\n"
        "        try: child.join()\n"
        "        finally: child.join()"  # as a pool's clean-up does
    )
    before = "from sparse_detr_deploy import cli_support; cli_support.CHILDREN_TIMEOUT = 0.5"
    done = terminated(tmp_path, body, before)
    assert done.returncode == 143
    assert "terminated; nothing half-written is left\n" in done.stderr
    assert list(tmp_path.iterdir()) == []


@posix
def test_forked_children_just_end(tmp_path: Path) -> None:
    """A worker that its program terminates says nothing and cleans nothing up that is not its own."""
    body = (
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "        child.start(); time.sleep(0.2); child.terminate(); child.join()\n"
        "        print(child.exitcode, len(os.listdir(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, before=""), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"-{int(signal.SIGTERM)} 1\n", "")


@posix
def test_the_old_handler_is_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    previous = signal.signal(signal.SIGTERM, handler := lambda number, frame: None)

    @reports_errors
    def program(outcome: str) -> None:
        assert signal.getsignal(signal.SIGTERM) is not handler
        if outcome == "term":
            signal.raise_signal(signal.SIGTERM)
        if outcome == "error":
            raise InputError("wrong")

    try:
        program("well")
        assert signal.getsignal(signal.SIGTERM) is handler
        for outcome, code in (("error", 2), ("term", 143)):
            with pytest.raises(SystemExit) as ended:
                program(outcome)
            assert ended.value.code == code
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert capsys.readouterr().err == "error: wrong\nterminated; nothing half-written is left\n"


def test_other_threads_have_no_say_in_signals() -> None:
    before, results = signal.getsignal(signal.SIGTERM), []

    @reports_errors
    def program() -> None:
        results.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=program)
    thread.start()
    thread.join()
    assert results == [before]


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    @reports_errors
    def program() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; nothing half-written is left\n"
    assert "130 interrupted, 143 terminated" in EXIT_CODES


def test_what_would_turn_a_line_is_escaped() -> None:
    assert printable("a\u202egpj.exe\u2028b\x1b[0m\n") == "a\\u202egpj.exe\\u2028b\\x1b[0m\n"
    assert printable("größe ρ 😀 שלום") == "größe ρ 😀 שלום"
