"""YAML files that users write, read into checked values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from bench.errors import UserError
from bench.yaml_aliases import check_aliases

T = TypeVar("T")
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
# For a dataclass or TypedDict of a file: a key that it does not have is a mistake.
strict = with_config(ConfigDict(extra="forbid"))


def load_yaml(path: Path, shape: type[T]) -> T:
    """Read `path` and check it against `shape`, a (nested) dataclass.

    Raises UserError with one line that names the file, the line and the mistake.
    """
    node, data = _read(path)
    try:
        return TypeAdapter(shape).validate_python(data)
    except ValidationError as error:
        raise UserError(f"{path}{_first_problem(error, node)}") from error


def lines_of(path: Path) -> Callable[[Sequence[str]], int | None]:
    """A function of keys, the outermost first: the line of `path` that has their value.

    None in a file without any. Raises UserError like `load_yaml`.
    """
    node, _ = _read(path)
    return lambda place: None if node is None else _line(_found(node, place))


def _read(path: Path) -> tuple[yaml.Node | None, object]:
    """The nodes and the value of a file. Raises UserError with one line."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise UserError(f"{path} is nested too deeply; write it without so many levels") from None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema, in which `yes`, `1:30` and `010` are text. Keys are unique."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """The mapping that begins here. Raises yaml.YAMLError for a key that is given twice."""
        node = super().compose_mapping_node(anchor)
        keys: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            first = keys.setdefault((key.tag, key.value), key)
            if first is not key:
                raise yaml.YAMLError(
                    f"line {_line(key)}: {key.value} is given twice, first in line {_line(first)};"
                    " remove one of them"
                )
        return node

    def compose_scalar_node(self, anchor: dict[Any, yaml.Node]) -> yaml.ScalarNode:
        """The scalar here. Raises yaml.YAMLError for one with a tag of its own, like `!!int`."""
        tag = self.peek_event().tag  # type: ignore[no-untyped-call]
        node = super().compose_scalar_node(anchor)
        if tag is not None:
            raise yaml.YAMLError(f"line {_line(node)}: {node.value!r} has the tag {tag}; remove it")
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # Longer ones are text: Python has its own limit for them.
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )


def _parse(text: str) -> tuple[yaml.Node | None, object]:
    """The document's nodes, which know their lines, and its value."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        check_aliases(node)
        return node, loader.construct_document(node)
    finally:
        loader.dispose()


def _first_problem(error: ValidationError, node: yaml.Node | None) -> str:
    problems = error.errors(include_url=False)
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = first["msg"].replace("a valid tuple", "a list")  # YAML knows no tuples
    line = "" if node is None else f", line {_line(_found(node, first['loc']))}"
    return f"{line}: {place}: {message}, seen {_shorten(first['input'])}{more}"


def _found(node: yaml.Node, place: Sequence[int | str]) -> yaml.Node:
    """The node at a place, or the innermost around it that is written down."""
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            inside = node.value[part : part + 1]
        elif isinstance(node, yaml.MappingNode):
            inside = [value for key, value in node.value if key.value == str(part)]
        else:
            inside = []
        if not inside:
            break
        node = inside[0]
    return node


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _shorten(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
