"""The reference that follows from the code: `python -m tests.docs.generated` writes it.

tests/docs/test_generated.py fails while a page differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from bench.analysis.metrics import METRICS
from bench.cli import commands as bench
from bench.cli.scenarios import measured_scenarios
from bench.config import endpoints, slo, topology
from bench.config.peers import Peer
from bench.config.profiles import PROFILES
from lb.options import make_parser
from lb.policies import POLICIES
from reports import wording
from reports.__main__ import parser as parser_of_reports
from tests.docs.pages import ROOT
from validation.__main__ import parser as parser_of_validation

REFERENCE = ROOT / "docs" / "reference"
Lines = Iterator[str]
Parser = argparse.ArgumentParser


def pages() -> Mapping[Path, str]:
    """Every page that is made, or has a table that is. Raises ValueError if marks are missing."""
    scenarios = REFERENCE / "scenarios.md"
    limits = ROOT / "docs" / "explanation" / "limits.md"
    return {
        REFERENCE / "commands.md": text_of(commands_page()),
        REFERENCE / "files.md": text_of(files_page()),
        REFERENCE / "metrics.md": text_of(metrics_page()),
        scenarios: with_tables(scenarios, scenarios=scenario_table(), profiles=profile_table()),
        limits: with_tables(limits, rates=rates_table()),
    }


def text_of(lines: Lines) -> str:
    """The lines as the text of a file."""
    return "".join(f"{line}\n" for line in lines)


def with_tables(page: Path, **tables: Lines) -> str:
    """A page with its tables, between their marks, as they should be."""
    text = page.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{page} lacks {begin!r} or {end!r}")
        text = "".join((before, begin, "\n", text_of(lines), "\n", end, after))
    return text


def head(*titles: str) -> Lines:
    """The first two lines of a table."""
    yield row(*titles)
    yield f"|{'---|' * len(titles)}"


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def scenario_table() -> Lines:
    """What is measured; scenarios of every model come first."""
    yield from head(
        "scenario", "what it does", "models", "primary metric", "expected of the treatment"
    )
    for one in measured_scenarios():
        metric = wording.metric(one.scenario.primary)
        expected = one.scenario.expect.replace("-", " ")
        yield row(one.scenario.name, one.summary, one.models, metric, expected)


def profile_table() -> Lines:
    """How many blocks a comparison has, and how long they take."""
    yield from head(
        "profile", "blocks, until it is decided", "a trial", "a measurement of capacity"
    )
    for one in PROFILES.values():
        *others, last = map(str, one.looks)
        yield row(
            one.name,
            f"{', '.join(others)} or {last}",
            f"{one.trial_s:g} s",
            f"{one.capacity_s:g} s",
        )


def rates_table() -> Lines:
    """What became of comparisons whose answer is known."""
    verdicts = ("better", "worse", "equivalent", "inconclusive", "invalid")
    summary = json.loads((ROOT / "docs" / "evidence" / "summary.json").read_text("utf-8"))
    yield from head("comparisons whose answer is known", "runs", *verdicts)
    for kind, meaning in (
        ("aa", "an arm against itself"),
        ("heavy_tail_quick", "managed against baseline, heavy-tail"),
        ("heavy_tail_quick_noisy", "the same, while somebody takes 15 % of the machine"),
        ("slowdown_10", "all replicas of the treatment lose 10 % of their core"),
        ("slowdown_20", "they lose 20 %"),
        ("slowdown_40", "they lose 40 %"),
    ):
        yield row(meaning, *(str(summary[kind][one]) for one in ("runs", *verdicts)))


def metrics_page() -> Lines:
    """All metrics that a scenario, `--metric` or an assertion may name."""
    yield "# Metrics"
    yield ""
    yield "Made from `bench/analysis/metrics.py` by `make docs`. Scenarios and `--metric` name them"
    yield "so; `NAME@TENANT` is that of one tenant. The"
    yield "[glossary](../glossary.md#what-is-measured) says what the words mean."
    yield ""
    yield from head("metric", "in reports", "unit", "better", "requests that it needs")
    for one in METRICS.values():
        yield row(
            f"`{one.name}`", wording.metric(one.name), one.unit, one.direction, str(one.minimum_n)
        )


def commands_page() -> Lines:
    """Every program of the suite, with what it takes."""
    yield "# Commands"
    yield ""
    yield "Made from the programs themselves by `make docs`. `--help` says the same."
    yield ""
    yield "## make"
    yield ""
    yield '`make` lists these. `ARGS="..."` are more options of the program that a target starts.'
    yield from make_tables((ROOT / "Makefile").read_text(encoding="utf-8"))
    yield ""
    yield "## python -m bench"
    yield ""
    yield "[Options](options.md) has the options of each, and those of pytest."
    yield ""
    yield from head("command", "what it does", "more")
    for command in bench.COMMANDS:
        many = f"[{command.argument} ...]" if command.several else command.argument
        yield row(f"`{command.name} {many}".rstrip() + "`", command.help, command.epilog)
    yield ""
    yield "## python -m lb"
    yield ""
    yield "[The balancer in operation](balancer.md) says what they do."
    yield from option_tables(make_parser())
    yield ""
    yield from head("policy", "port", "rule")
    for name, entry in sorted(POLICIES.items(), key=lambda one: one[1].default_port):
        yield row(f"`{name}`", str(entry.default_port), entry.summary)
    yield ""
    yield "## python -m reports"
    yield from subcommands(parser_of_reports())
    yield ""
    yield "## python -m validation"
    yield from subcommands(parser_of_validation())


def make_tables(makefile: str) -> Lines:
    """The targets that `make help` shows, a table for each of its groups."""
    for line in makefile.splitlines():
        if group := re.fullmatch(r"##@ (.*)", line):
            yield ""
            yield from head("target", group[1][:1].lower() + group[1][1:])
        elif (target := re.fullmatch(r"([a-z-]+):[^#]*## (.*)", line)) and target[1] != "help":
            yield row(f"`{target[1]}`", target[2])


def subcommands(parser: Parser) -> Lines:
    """The commands of a parser, and the options of each."""
    (group,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    helps = {one.dest: one.help or "" for one in group._choices_actions}
    for name, command in group.choices.items():
        yield ""
        yield f"`{name}`: {helps[name]}."
        yield from option_tables(command)


def option_tables(parser: Parser) -> Lines:
    """The options of a parser, a table for each of its groups."""
    for group in parser._action_groups:
        listed = [one for one in group._group_actions if "--help" not in one.option_strings]
        if not listed:
            continue
        yield ""
        title = "option" if group.title in {"options", "positional arguments"} else group.title
        yield from head(title or "option", "meaning")
        for one in listed:
            yield row(f"`{_typed(one)}`", (one.help or "") % {"default": one.default})


def _typed(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    if not value and action.nargs != 0:
        value = action.dest.upper()
    return " ".join(filter(None, (*action.option_strings[-1:], str(value))))


FILES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "The topology file": (
        "`--topology`, by default `bench/topology.yaml`: the only file that lists models, "
        "replicas, arms and GPUs. Its comments have examples. What does not fit the GPUs is "
        "refused with the arithmetic.",
        (
            topology.Topology,
            topology.Model,
            topology.KvShape,
            topology.Arm,
            topology.EngineFlags,
            topology.EngineEntry,
            topology.GpuEngineEntry,
            topology.HardwareEntry,
        ),
    ),
    "The file of objectives": (
        "`--slo`, by default `bench/slo.yaml`. The most specific value wins: `default`, then the "
        "scenario's, its model's, its tenant's. `python -m bench gates` prints what follows.",
        (slo.SloFile, slo.ScenarioObjectives, slo.Objectives),
    ),
    "The file of endpoints": (
        "`--endpoints=FILE` of `--env external`: [how to](../how-to/endpoints.md).",
        (
            endpoints.EndpointsFile,
            endpoints.EndpointEntry,
            endpoints.ReplicaEntry,
            endpoints.ServedModel,
        ),
    ),
}


def files_page() -> Lines:
    """The fields of each file that users write."""
    yield "# Files that you write"
    yield ""
    yield "Made from the code by `make docs`. They are YAML 1.2. A field that is unknown, has"
    yield "another type or is given twice is refused in one line, with the file and the line."
    for title, (about, shapes) in FILES.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield about
        for shape in shapes:
            yield ""
            yield f"### {shape.__name__}"
            yield ""
            if written := _docstring(shape):
                yield written
                yield ""
            yield from field_table(shape)


def _docstring(shape: type) -> str:
    return inspect.cleandoc(shape.__dict__.get("__doc__") or "")


def field_table(shape: type) -> Lines:
    """The fields of a dataclass or TypedDict: type and default. The name is an entry's key."""
    defaults = (
        {one.name: _default(one) for one in dataclasses.fields(shape)}
        if dataclasses.is_dataclass(shape)
        else {}
    )
    yield from head("field", "value", "default")
    for name, hint in get_type_hints(shape, include_extras=True).items():
        if name != "name" or shape in {endpoints.EndpointEntry}:
            yield row(f"`{name}`", in_words(hint), defaults.get(name, ""))


def _default(one: dataclasses.Field[Any]) -> str:
    value = one.default
    if value is dataclasses.MISSING:
        return "needed" if one.default_factory is dataclasses.MISSING else ""
    if value in (None, (), "") or dataclasses.is_dataclass(value):
        return ""
    return f"`{json.dumps(value)}`" if isinstance(value, bool) else f"`{value}`"


PLAIN: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    Path: "path",
    Any: "anything",
    NoneType: "nothing",
    Peer: "an arm in `bench/peers.yaml`",
}


def in_words(hint: Any) -> str:
    """A type, as a user would say it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = "".join(_bounds(one) for one in arguments[1:] if isinstance(one, FieldInfo))
        said = in_words(arguments[0]) + bounds
    elif origin is Literal:
        said = ", ".join(f"`{one}`" for one in arguments)
    elif origin in {Union, UnionType}:
        said = " or ".join(in_words(one) for one in arguments if one is not NoneType)
    elif origin is tuple:
        said = f"list of {in_words(arguments[0])}"
    elif origin is dict:
        said = f"by {_key(arguments[0])}: {in_words(arguments[1])}"
    else:
        said = PLAIN.get(hint) or f"[{hint.__name__}](#{hint.__name__.lower()})"
    return said


def _key(hint: Any) -> str:
    return "name" if hint is str else in_words(hint)


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": " from {}", "gt": " above {}", "le": " up to {}"}
    found = {
        name: getattr(one, name) for one in field.metadata for name in signs if hasattr(one, name)
    }
    return "".join(signs[name].format(f"{value:g}") for name, value in found.items())


def main() -> None:
    """Write all pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
