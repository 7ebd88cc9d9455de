"""Checkpoint files: tensors and training arguments out of them, with nothing in the file executed.

A file is hostile until shown otherwise: what it describes is checked first, and what is read is bounded by its size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export.pickled_values import Arguments, ForeignObjectError, PickledTensor, Unmade
from sparse_detr_deploy.export.safetensors_file import read_header
from sparse_detr_deploy.export.stored_tensor import StoredTensor
from sparse_detr_deploy.export.torch_file import LEGACY, MOST_SHARING, ZIP, TorchContent, read_content
from sparse_detr_deploy.export.zip_records import TorchScriptError
from sparse_detr_deploy.hashing import sha256_of_rest
from sparse_detr_deploy.plain_values import check_plain, parse_json
from sparse_detr_deploy.regular_files import open_regular, read_text
from sparse_detr_deploy.short_repr import short_repr, shown_name

_HINT = "official files hold 'model' and 'args'; for a bare state dict put its arguments as JSON beside it"
_PICKLE = b"\x80"
# The largest published detectors have 1 GB with their optimizer. Files with holes take no disk and any length.
_MOST_FILE = 8 * 2**30
_MOST_TENSORS = 20_000  # ResNet-101 with 6+6 layers: 1,000
_MOST_KEY = 512
_MOST_ARGUMENTS = 10_000
_MOST_SIDECAR = 16 * 2**20


class _ArgumentsError(ValueError):
    """The training arguments are no plain values of a reasonable size."""


@dataclasses.dataclass(frozen=True)
class CheckpointFile:
    """Tensors by key as they stand in the file, and the training arguments that the file holds (may be empty)."""

    tensors: dict[str, Tensor]
    args: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class OpenCheckpoint:
    """The same before the values are read: what the tensors are and where. ``size`` is the file's, in bytes."""

    path: Path
    size: int
    tensors: dict[str, StoredTensor]
    args: dict[str, Any]
    _file: BinaryIO

    def read(self, key: str) -> Tensor:
        """The values of one tensor, in a copy. Raises ``CheckpointError`` where the file changes meanwhile."""
        try:
            return self.tensors[key].read(self._file)
        except Exception as error:
            raise CheckpointError(f"{self.path}: {shown_name(key)} cannot be read ({_reason(error)})") from None

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file."""
        try:
            self._file.seek(0)
            return sha256_of_rest(self._file)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read ({_reason(error)})") from None


def read_checkpoint(path: Path) -> CheckpointFile:
    """Read a ``.pth``/``.pt`` of ``torch.save`` (either format) or a ``.safetensors`` file.

    Raises:
        CheckpointError: as :func:`open_checkpoint`.
    """
    with open_checkpoint(path) as file:
        known: dict[StoredTensor, Tensor] = {}
        for key, stored in file.tensors.items():
            if stored not in known:
                known[stored] = file.read(key)
        return CheckpointFile({key: known[stored] for key, stored in file.tensors.items()}, file.args)


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[OpenCheckpoint]:
    """Open a checkpoint and read what it describes, none of its tensors. The file stays the one that was checked.

    Of Python classes only ``argparse.Namespace`` is let through, as a dictionary.

    Raises:
        CheckpointError: missing, no regular file, empty, truncated, no checkpoint, with Python objects in it, or with
            tensors that are not in the file as they are described.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(path))
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
        except OSError as error:
            raise CheckpointError(_unreadable(path, error)) from None
        if not start:
            raise CheckpointError(f"{path} is empty: the download or copy failed; get it again")
        if size > _MOST_FILE:
            raise CheckpointError(f"{path} has {size:,} bytes; checkpoints of at most {_MOST_FILE:,} are read")
        file.seek(0)
        tensors, args = _described(path, file, size, start)
        if sum(stored.nbytes for stored in set(tensors.values())) > MOST_SHARING * size:
            raise CheckpointError(f"{path} describes more tensors than its {size:,} bytes hold: they overlap")
        yield OpenCheckpoint(path, size, tensors, args, file)


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"{path} does not exist"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder: give the checkpoint file in it"
    return f"{path} cannot be read ({error.strerror or error})"


def _described(path: Path, file: BinaryIO, size: int, start: bytes) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    """Tensors and arguments, by the format that the file has."""
    is_safetensors = path.suffix == ".safetensors"
    if not is_safetensors and not start.startswith((ZIP, LEGACY)):
        described = "a Python pickle that torch.save did not write" if start.startswith(_PICKLE) else "something else"
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint but {described} (it begins with {start[:16]!r}); nothing of it was run"
        )
    kind = "not a safetensors file" if is_safetensors else "not a PyTorch checkpoint"
    try:
        if is_safetensors:
            return _safetensors(file, size)
        return _split(path, read_content(file, size))
    except CheckpointError:
        raise
    except ForeignObjectError as error:
        raise CheckpointError(
            f"{path} holds Python objects other than tensors and argparse.Namespace ({shown_name(error.name)}), and "
            "nothing of them was run: if you trust it, load it where it was made and save its 'model' and 'args' again"
        ) from None
    except _ArgumentsError as error:
        raise CheckpointError(
            f"{path}: {error}; load it where it was made, and save its 'model' with plain 'args'"
        ) from None
    except TorchScriptError:
        raise CheckpointError(f"{path} is a TorchScript program, not a checkpoint: save its state dict") from None
    except Exception as error:  # a damaged file may fail anywhere in the reader, with any error
        raise CheckpointError(f"{path} is damaged, truncated or {kind} ({_reason(error)}): get it again") from None


def _reason(error: Exception) -> str:
    text = str(error).split("\n")[0]
    if isinstance(error, ValueError) and text.isprintable():
        return text[:300]
    return f"{type(error).__name__}: {text[:100]}" if text and text.isprintable() else type(error).__name__


def _split(path: Path, file: TorchContent) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    """Find the state dict and the arguments in what was pickled."""
    content = file.content
    if not isinstance(content, dict):
        named = "Tensor" if isinstance(content, PickledTensor) else type(content).__name__
        raise CheckpointError(f"{path} holds a {named}, not a state dict: {_HINT}")
    args = content.get("args", content.get("config", {}))
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(value, PickledTensor) or (isinstance(value, Unmade) and value.is_tensor)
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors under 'model': {_HINT}")
    if len(tensors) > _MOST_TENSORS:
        raise CheckpointError(f"{path} holds {len(tensors):,} tensors; networks of at most {_MOST_TENSORS:,} are read")
    for key in tensors:
        _check_key(path, key)
    try:
        found = {key: file.locate(key, value) for key, value in tensors.items()}
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return found, _checked_arguments(args.values if isinstance(args, Arguments) else args)


def _check_key(path: Path, key: Any) -> None:
    if not isinstance(key, str) or len(key) > _MOST_KEY:
        raise CheckpointError(f"{path} has a tensor under {short_repr(key)}, which is no name of at most {_MOST_KEY}")


def _safetensors(file: BinaryIO, size: int) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    tensors, described = read_header(file, size)
    # save_model stores a shared tensor once and says under which name the others lie
    tensors.update({key: tensors[kept] for key, kept in described.items() if kept in tensors and key not in tensors})
    if len(tensors) > _MOST_TENSORS or any(len(name) > _MOST_KEY for name in tensors):
        raise ValueError(f"it has more than {_MOST_TENSORS:,} tensors, or names of more than {_MOST_KEY} characters")
    return tensors, _checked_arguments(parse_json(described.get("config", "{}")))


def _checked_arguments(args: Any) -> dict[str, Any]:
    """Arguments that code may walk and compute with; those that are no mapping are left out. Raises ``ValueError``."""
    if not isinstance(args, dict):
        return {}
    try:
        check_plain(args, _MOST_ARGUMENTS)
    except ValueError as error:
        raise _ArgumentsError(f"its arguments hold what cannot be read: {error}") from None
    for name in args:
        if not isinstance(name, str) or len(name) > _MOST_KEY:
            raise _ArgumentsError(f"one of its arguments is named {short_repr(name)}")
    return dict(args)


def read_sidecar(path: Path, has_args: bool) -> dict[str, Any]:
    """Training arguments from the JSON file beside a checkpoint; empty where there is none.

    ``<name>.json`` always counts; ``config.json`` only for a checkpoint without arguments, because it may belong to
    something else in the folder.

    Raises:
        CheckpointError: the file is no regular file, or holds no JSON object of plain values.
    """
    candidates = [path.with_name(f"{path.name}.json"), path.with_suffix(".json")]
    for candidate in candidates if has_args else [*candidates, path.with_name("config.json")]:
        # a name that is too long is none, a folder is something else, and what is not there is not asked
        if not os.path.exists(candidate) or os.path.isdir(candidate) or candidate == path:
            continue
        try:
            values = parse_json(read_text(candidate, _MOST_SIDECAR))
        except OSError as error:
            raise CheckpointError(
                f"{candidate} is not a JSON file that can be read ({error.strerror or error})"
            ) from None
        except ValueError as error:
            raise CheckpointError(f"{candidate} is not JSON of plain values ({_reason(error)})") from None
        if isinstance(values, dict) and isinstance(values.get("args"), dict):
            values = values["args"]
        if not isinstance(values, dict):
            raise CheckpointError(f"{candidate} is not a JSON object of argument names and values")
        try:
            return _checked_arguments(values)
        except ValueError as error:
            raise CheckpointError(f"{candidate}: {error}") from None
    return {}
