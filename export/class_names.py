"""Reading the names of the classes from a file: one a line, or a JSON list."""

from __future__ import annotations

from pathlib import Path

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.limits import names_fault
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_text

_MOST_BYTES = 2**24


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in ``path``, from label 0 on. It is JSON if it is called so (``.json``) or holds a whole JSON list.

    Raises:
        InputError: it cannot be read, is empty, skips a label, or is JSON but no list of strings.
    """
    try:
        text = read_text(path, _MOST_BYTES)
    except OSError as error:
        raise InputError(f"the class names {path} cannot be read ({error.strerror or error})") from None
    called_json = path.suffix.lower() == ".json"
    if called_json or text.lstrip().startswith(("[", "{")):
        try:
            names = parse_json(text)
        except ValueError as error:
            if called_json:
                raise InputError(
                    f"the class names {path} are not a JSON list ({error}): correct it, or give one name a line in a .txt file"
                ) from None
        else:
            return _from_json(names, path)
    return _from_lines(text, path)


def _from_json(names: object, path: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"the class names {path} are JSON, but not a list of strings (one for each label, from 0)")
    return _checked(names, path)


def _from_lines(text: str, path: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise InputError(
            f"the class names {path} have nothing on line {lines.index('') + 1}, and the names after it would move: "
            "write N/A for a label that is not used"
        )
    return _checked(lines, path)


def _checked(names: list[str], path: Path) -> tuple[str, ...]:
    if not names:
        raise InputError(f"the class names {path} are empty: give one name a line, from label 0 on")
    fault = names_fault(tuple(names))
    if fault is not None:
        raise InputError(f"the class names {path} cannot be kept in a file: {fault}")
    return tuple(names)
