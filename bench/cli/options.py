"""From the declared options: the options of pytest and of commands, their values, and a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.config.options import PYTEST, Options
from bench.errors import UserError
from bench.paths import PACKAGES, ROOT


@dataclass(frozen=True, slots=True)
class Option:
    """An option as declared in `bench.config.options`.

    With neither `metavar` nor `choices` it is a switch. `parse` makes the value from the text
    (default: the type of `default`); it raises UserError, or ValueError for a text that is not
    what the option `takes`. `shown` is the default in words, where its own text does not do. With
    `many` it may be given several times; it has `count` values each time. `also` is another
    spelling of its flag.
    """

    name: str
    default: Any
    meaning: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    parse: Callable[[str], Any] | None = None
    takes: str = ""
    commands: tuple[str, ...] = (PYTEST,)
    shown: str = ""
    many: bool = False
    count: int = 1
    also: str = ""

    @property
    def flag(self) -> str:
        """`--keep-env`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def value_name(self) -> str:
        """What stands for the value in help; empty for a switch."""
        return self.metavar or "|".join(self.choices)

    @property
    def default_text(self) -> str:
        """The default in words; empty for a switch, and where there is none."""
        if self.shown or self.default is None or not self.value_name:
            return self.shown
        if isinstance(self.default, Path):
            own = self.default.is_relative_to(PACKAGES)
            return str(self.default.relative_to(PACKAGES if own else ROOT))
        return ",".join(self.default) if isinstance(self.default, tuple) else f"{self.default}"

    def value(self, typed: str) -> Any:
        """The value of a text. Raises UserError with one line if it is not valid."""
        *others, last = self.choices or ("",)
        takes = self.takes or (f"{', '.join(others)} or {last}" if others else last)
        mistake = UserError(f"{self.flag} takes {takes}, seen {typed!r}")
        if self.choices and typed not in self.choices:
            raise mistake
        text = self.default is None or self.many
        parse = self.parse or (str if text else type(self.default))
        try:
            return parse(typed)
        except ValueError:
            raise mistake from None


_PAGE = """# Options

Made from `bench/config/options.py` by `python -m bench options > docs/reference/options.md`: change
them there. "Taken by" names pytest and the commands of `python -m bench`.
"""


def _declared(one: Field[Any]) -> Iterator[Option]:
    """An option, and after it what it is for commands for which it differs."""
    metadata = dict(one.metadata)
    variants = metadata.pop("variants", {})
    made = Option(one.name, one.default, **metadata)
    yield made
    yield from (replace(made, commands=commands, **more) for commands, more in variants.items())


OPTIONS = tuple(option for one in fields(Options) for option in _declared(one))


def options_of(command: str) -> tuple[Option, ...]:
    """The options that a command, or pytest, takes."""
    return tuple(one for one in OPTIONS if command in one.commands)


def add_options(add: Callable[..., object], command: str) -> None:
    """Give the options of a command, or of pytest, to `add`: `add_argument` or `addoption`.

    They keep the text as typed: `read_options` parses it, so that mistakes read alike everywhere.
    """
    for one in options_of(command):
        default = f" (default: {one.default_text})" if one.default_text else ""
        kind: dict[str, Any] = {"metavar": one.value_name}
        if not one.value_name:
            kind = {"action": "store_true"}
        if one.many:
            kind["action"] = "append"
        if one.count > 1:
            kind["nargs"] = one.count
        flags = filter(None, (one.flag, one.also))
        add(*flags, dest=one.name, help=one.meaning + default, **kind)


def read_options(typed: Mapping[str, Any], command: str) -> Options:
    """The options of a command, or of pytest, from what was typed, by name.

    One that is absent or None has its default. Raises UserError with one line for the first that
    is wrong.
    """
    given = {one: typed.get(one.name) for one in options_of(command)}
    return Options(
        **{one.name: _value(one, text) for one, text in given.items() if text is not None}
    )


def _value(option: Option, typed: Any) -> Any:
    if option.many or option.count > 1:
        return tuple(option.value(text) for text in typed)
    return option.value(typed) if option.value_name else typed


def options_page() -> str:
    """All options as a page of Markdown: a row each, with default, meaning and commands.

    An option that differs between commands has a row for each.
    """
    lines = [_PAGE, "| option | default | meaning | taken by |", "|---|---|---|---|"]
    for one in OPTIONS:
        option = " ".join((one.flag, *[one.value_name] * one.count)).strip().replace("|", "\\|")
        commands = ", ".join(one.commands)
        lines.append(f"| `{option}` | {one.default_text} | {one.meaning} | {commands} |")
    return "\n".join(lines) + "\n"
