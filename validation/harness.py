"""What all commands share: programs, rounds, facts of the machine, the record, the table."""

from __future__ import annotations

import argparse
import datetime
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Generic, TypeVar

import psutil
import yaml
from pydantic_core import to_jsonable_python

from bench.config.config import git_commit
from bench.console import terminal, whole_number
from bench.errors import UserError
from bench.processes.guarded import run_bounded
from bench.processes.resources import cpu_name
from bench.progress import Progress
from bench.store.files import strict_json, write_whole
from validation.figures import Comparison, M, Round

ROOT = Path(__file__).parents[1]
_SAMPLE_S = 1.0
_IDLE_PERCENT = 10.0
_VERSION_TIMEOUT_S = 20.0

T = TypeVar("T")
W = TypeVar("W")
"""What a program is given to do."""


@dataclass(frozen=True, slots=True)
class Program(Generic[W]):
    """A program that is compared. `path` is None where it is not installed.

    `install` is the command line that installs it; `version` asks it, with logs in a folder;
    `start` makes the command that starts it for its work, with whatever files that needs.
    """

    name: str
    path: Path | None
    install: str
    version: Callable[[Path], str]
    start: Callable[[W], list[str]]


@dataclass(frozen=True, slots=True)
class Selection(Generic[W]):
    """The programs to measure, and those of them that are not installed."""

    present: tuple[Program[W], ...]
    absent: tuple[Program[W], ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """A line for each program that is not installed."""
        return tuple(f"{one.name} is absent; install it with: {one.install}" for one in self.absent)

    def facts(self, folder: Path) -> dict[str, dict[str, str]]:
        """Versions of the present programs by name, and how to install the absent ones.

        Logs go to `folder`.
        """
        return {
            "versions": {one.name: one.version(folder) for one in self.present},
            "absent": {one.name: one.install for one in self.absent},
        }


def choose(known: Sequence[Program[W]], only: str | None, kind: str) -> Selection[W]:
    """Those of `known`, each a `kind`, that `only` names, separated by commas, or all.

    They keep their order. Raises UserError for an unknown name, or when none is installed.
    """
    names = [one.name for one in known]
    chosen = names if only is None else [name.strip() for name in only.split(",")]
    for name in chosen:
        if name not in names:
            raise UserError(f"--only: {name!r} is not one of {', '.join(names)}")
    wanted = [one for one in known if one.name in chosen]
    selection = Selection(
        present=tuple(one for one in wanted if one.path is not None),
        absent=tuple(one for one in wanted if one.path is None),
    )
    if not selection.present:
        raise UserError(f"no {kind} to measure: " + "; ".join(selection.remarks))
    return selection


def configuration(file: str) -> str:
    """The text of a file in configurations/."""
    return (Path(__file__).parent / "configurations" / file).read_text(encoding="utf-8")


def filled(file: str, **values: object) -> str:
    """The text of a file in configurations/, with each `$name` replaced by that value."""
    return Template(configuration(file)).substitute(values)


def command_line(*names: str, **values: object) -> list[str]:
    """The words of these entries of commands.yml, one after the other, filled with `values`."""
    known = yaml.safe_load(configuration("commands.yml"))
    words = [word for name in names for word in known[name].split()]
    return [word.format_map({**known, **values}) for word in words]


def package_version(python: Path, package: str) -> Callable[[Path], str]:
    """Asks for the version of a package of that Python."""
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    return first_line_of(str(python), "-c", ask)


def first_line_of(*command: str) -> Callable[[Path], str]:
    """Runs `command`, with logs in a folder, and returns `first_line`."""
    return lambda folder: first_line(command, folder)


def output_of(command: Sequence[str], log: Path, timeout_s: float, name: str = "") -> str:
    """What `command` prints on either stream, whatever its exit code; `log` is replaced.

    Raises UserError, with its `name`, if it has not ended in time.
    """
    log.unlink(missing_ok=True)
    run_bounded(name or command[0], command, log=log, limit_s=timeout_s)
    return log.read_text(encoding="utf-8", errors="replace")


def first_line(command: Sequence[str], folder: Path) -> str:
    """The first line that `command` prints, such as its version; "unknown" if none."""
    output = output_of(command, folder / "version.log", _VERSION_TIMEOUT_S)
    return next(iter(output.splitlines()), "unknown").strip()


def add_counts(parser: argparse.ArgumentParser, *options: tuple[str, int, str]) -> None:
    """Add options that count something: each a name, a default and what it counts."""
    for name, default, text in options:
        help_text = f"{text} (default: {default})"
        parser.add_argument(
            f"--{name}", type=whole_number, default=default, metavar="N", help=help_text
        )


def alternate(items: Sequence[T], rounds: int) -> list[Sequence[T]]:
    """The order of `items` in each round: ABC, CBA, ABC, ..., so that drift cancels."""
    return [items if index % 2 == 0 else items[::-1] for index in range(rounds)]


def run_rounds(
    targets: Mapping[str, T],
    rounds: int,
    measure: Callable[[T, int], M],
    progress: Progress,
) -> list[Round[M]]:
    """What `measure` returns of each target in each round; it gets the round's number, from 1."""
    found: list[Round[M]] = []
    for number, order in enumerate(alternate(list(targets), rounds), start=1):
        with progress.step(f"round {number} of {rounds}") as step:
            measured: dict[str, M] = {}
            for name in order:
                step.update(name)
                measured[name] = measure(targets[name], number)
            found.append({name: measured[name] for name in targets})
    return found


def machine_facts(cores: Mapping[str, Any]) -> dict[str, Any]:
    """Date, suite and machine, as JSON values; `cores` says which did what."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(ROOT / ".git"),
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "kernel": platform.release(),
        "cores": dict(cores),
    }


@contextmanager
def busy_around() -> Iterator[dict[str, float]]:
    """Yields how busy all cores were in the second `before` the context, in percent.

    When it has ended there is `after`, of the second after it. Nothing of ours may run then.
    """
    busy = {"before": psutil.cpu_percent(interval=_SAMPLE_S)}
    yield busy
    busy["after"] = psutil.cpu_percent(interval=_SAMPLE_S)


def busy_remarks(before: float, after: float) -> Iterator[str]:
    """A line if the machine was not idle just before or just after; both in percent."""
    if max(before, after) > _IDLE_PERCENT:
        yield (
            f"the machine was not idle ({before:.0f} % busy before, {after:.0f} % after): "
            "latencies and rates suffer; measure again on an idle one"
        )


def finish(
    comparison: Comparison[M],
    rounds: Sequence[Round[M]],
    facts: Mapping[str, Any],
    remarks: Iterable[str],
    output: Path,
) -> None:
    """Write every number to `output` (JSON), then print the table and `remarks`."""
    figures = comparison.figures(rounds)
    keep(output, {"note": comparison.note, **facts, "figures": figures, "rounds": rounds})
    width, colour = terminal()
    print(comparison.text(figures, remarks, width=width, colour=colour), end="")


def keep(output: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON; dataclasses in it become objects. Raises UserError."""
    write_whole(output, strict_json(output, to_jsonable_python(record)))
