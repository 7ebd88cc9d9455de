"""What TensorRT calls back: its errors in our messages, and Ctrl-C while native code works."""

from __future__ import annotations

import logging
import threading

import pytest

from sparse_detr_deploy.export.engine.session import Messages, interruptible, make_logger
from tests.fakes.tensorrt import FakeTensorRT
from tests.fakes.tensorrt_types import ILogger

SEVERITY = ILogger.Severity


def test_the_first_three_errors_are_the_reason() -> None:
    messages = Messages()
    assert messages.reason() == "it gives no reason"
    logger = make_logger(FakeTensorRT(), messages)
    for number in range(4):
        logger.log(SEVERITY.ERROR, f" error\n  {number} ")
        logger.log(SEVERITY.WARNING, "a warning")
    logger.log(SEVERITY.ERROR, "error 0")  # said twice
    assert messages.reason() == "error 0; error 1; error 2; and 1 more"
    assert messages.reason("of the  parser", "error 1") == "of the parser; error 1; error 0; and 2 more"
    messages.clear()
    logger.log(SEVERITY.INTERNAL_ERROR, "within")
    assert messages.reason() == "within"


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings are of little use, and errors come back as exceptions."""
    caplog.set_level(logging.DEBUG)
    messages = Messages()
    for severity in SEVERITY:
        messages.add(severity.name, severity.name)
    levels = {record.message: record.levelname for record in caplog.records}
    assert levels == {name: "INFO" if name == "WARNING" else "DEBUG" for name in SEVERITY.__members__}


def test_what_work_returns_and_raises() -> None:
    names: list[str] = []
    assert interruptible(lambda: names.append(threading.current_thread().name) or 7, threading.Event()) == 7
    assert names == ["engine build"]
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, threading.Event())


def test_work_that_was_cancelled_gives_nothing() -> None:
    """Whatever it returned or raised."""
    cancelled = threading.Event()
    for result in (lambda: 7, lambda: 1 // 0):
        cancelled.clear()
        with pytest.raises(KeyboardInterrupt):
            interruptible(lambda result=result: (cancelled.set(), result()), cancelled)  # type: ignore[misc]
