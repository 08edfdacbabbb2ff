"""YAML files that users write, read into checked values."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from bench.errors import UserError

T = TypeVar("T")


def load_yaml(path: Path, shape: type[T]) -> T:
    """Read `path` and check it against `shape`, a (nested) dataclass.

    Raises UserError with one line that names the file, the place and the mistake.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {_one_line(error)}") from error
    try:
        return TypeAdapter(shape).validate_python(data)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}") from error


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = first["msg"].replace("a valid tuple", "a list")  # YAML knows no tuples
    return f"{place}: {message}, seen {_shorten(first['input'])}{more}"


def _shorten(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
