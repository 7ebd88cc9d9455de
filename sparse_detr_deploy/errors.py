"""Errors of the toolkit: one base class, one exit code for each kind.

A message says what is wrong, why, and how to mend it. The command-line programs print it and leave with
the class's ``exit_code``; they never show a traceback for a :class:`SparseDetrError`.
"""

from __future__ import annotations


class SparseDetrError(Exception):
    """Base class of every error that the toolkit raises on purpose."""

    exit_code = 1


class InputError(SparseDetrError, ValueError):
    """An argument, an image or an option is not usable: its value, type, shape or file."""

    exit_code = 2


class CheckpointError(SparseDetrError):
    """A checkpoint cannot be read safely or does not fit the architecture it names."""

    exit_code = 3


class ArtefactError(SparseDetrError):
    """A file is not an artefact of this toolkit, is damaged, or is newer than this version reads."""

    exit_code = 4


class VerificationError(SparseDetrError):
    """An exported artefact does not give what the PyTorch module gives."""

    exit_code = 5


class OutputError(SparseDetrError, OSError):
    """A result cannot be written: no permission, no space, or the file is there already."""

    exit_code = 6


class BackendError(SparseDetrError):
    """A runtime (ONNX Runtime, OpenVINO, TensorRT) is missing or failed."""

    exit_code = 7


class RegressionError(SparseDetrError):
    """A measurement is worse than the one that it is compared with."""

    exit_code = 8


class DivergenceError(SparseDetrError):
    """The loss of a training run is no finite number any more; the last state is kept."""

    exit_code = 9


INTERRUPTED_EXIT_CODE = 130
