"""The commands of `python -m bench`: what can be done without pytest."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.analysis.factorial import Factorial
from bench.analysis.gates import EXIT_CODES, Outcome, outcome_line, overall
from bench.analysis.judgement import Judgement
from bench.cli.comparing import compare_files, require_files, write_report
from bench.cli.conversion import convert
from bench.cli.dashboard.command import dashboard
from bench.cli.export import check_output, export, text_of
from bench.cli.gates import gates_json, gates_text
from bench.cli.operating import deploy, health, logs, status, teardown
from bench.cli.options import add_options, options_page, read_options
from bench.cli.peers import peers
from bench.cli.review import stored_run
from bench.cli.watching import watch_runs
from bench.cli.webhook import webhook_of
from bench.config.config import new_run_id
from bench.config.fitting import misfit_of, require_fit
from bench.config.options import Options
from bench.config.slo import load_slos
from bench.config.topology import load_topology
from bench.console import Parser, exit_code, terminal
from bench.environments.containers import files
from bench.environments.docker.compose import compose_files
from bench.environments.kubernetes.manifests.files import manifest_files
from bench.environments.node import wait_for_node
from bench.errors import UserError
from bench.paths import IN_CHECKOUT, ROOT, suite_version
from bench.progress import make_progress
from bench.store import TrialStore
from reports.terminal import summary_text


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `run` takes its options and its argument, and returns the exit code.

    The first line of `run`'s docstring is its help. `argument` is the name of the argument in the
    usage line; empty for a command without one. With `several`, `run` takes a list of arguments,
    which may be empty.
    """

    name: str
    run: Callable[[Options, Any], int]
    argument: str = ""
    several: bool = False
    epilog: str = ""

    @property
    def help(self) -> str:
        """`judge a stored run again`."""
        line = (self.run.__doc__ or "").partition("\n")[0].rstrip(".")
        return line[:1].lower() + line[1:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    return exit_code(lambda: _run(arguments), "interrupted")


def _run(arguments: Sequence[str] | None) -> int:
    typed = vars(parser().parse_args(arguments))
    command: Command = typed["command"]
    return command.run(read_options(typed, command.name), typed.get("argument", ""))


def parser() -> Parser:
    """The commands and their options, as typed."""
    top = Parser(prog="python -m bench", description=__doc__)
    top.add_argument("--version", action="version", version=f"bench {suite_version()}")
    parsers = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        made = parsers.add_parser(command.name, help=command.help, epilog=command.epilog)
        if command.argument:
            count = "*" if command.several else None
            made.add_argument("argument", metavar=command.argument, nargs=count)
        add_options(made.add_argument, command.name)
        made.set_defaults(command=command)
    return top


def compare(options: Options, paths: Sequence[str]) -> int:
    """Judge a stored run again, or results that other tools wrote."""
    check_output(options.format, options.output)
    webhook = webhook_of(options.webhook_env, os.environ)
    of_files = bool(paths or options.control or options.treatment)
    if of_files:
        run = compare_files(paths, options)
    else:
        require_files(options)
        run = stored_run(TrialStore(options.results), options.run)
    passes = options.undecided == "pass"
    shown = ""
    if options.format is not None:
        shown = export(run, options.format, options.output, undecided_passes=passes)
    if options.format is None or options.output is not None:
        _print_summary(run.judgements, run.factorials)
        shown += f"{outcome_line(run.judgements)}\n"
        if of_files:
            shown += write_report(run, options.results / "compared")
    print(shown, end="")
    if webhook is not None:
        print(webhook.post(text_of("json", run).encode()), file=sys.stderr)
    outcome = overall(run.judgements)
    return 0 if passes and outcome is Outcome.UNDECIDED else EXIT_CODES[outcome]


def take_over(options: Options, folder: str) -> int:
    """Take over a run that another tool measured."""
    run_id = new_run_id(TrialStore(options.results).latest_run())
    judgement, path = convert(Path(folder), options.arm, run_id, options.results)
    _print_summary([judgement])
    print(f"results: {path}")
    return 0


def manifests(options: Options, _: str) -> int:
    """Make k8s/ and the Compose files of docker/ follow the topology file."""
    if options.folder is None and not IN_CHECKOUT:
        raise UserError("this is no checkout, whose files could follow; give --folder DIR")
    root = options.folder or ROOT
    topology = load_topology(options.topology)
    for environment in topology.hardware:
        require_fit(topology, topology.models_for("gpu", environment), environment)
    version = suite_version()
    made = {
        root / "k8s": manifest_files(topology, version),
        root / "docker": compose_files(topology, version),
    }
    if options.check:
        differences = [files.first_difference(folder, texts) for folder, texts in made.items()]
        if difference := next(filter(None, differences), None):
            print(f"{difference}; run python -m bench manifests", file=sys.stderr)
        return 1 if difference else 0
    for folder, texts in made.items():
        files.write_files(folder, texts)
        print(f"{len(texts)} files written to {folder}")
    colocated = replace(topology, layout="colocated")
    for environment in topology.hardware:
        models = colocated.models_for("gpu", environment)
        if misfit := misfit_of(colocated, models, environment):
            print(f"no files for layout colocated: {misfit}")
    return 0


def gates(options: Options, _: str) -> int:
    """Print what is enforced, and why."""
    found = gates_json(load_slos(options.slo))
    if options.format is not None:
        print(json.dumps(found, indent=2))
        return 0
    width, colour = terminal()
    print(gates_text(found, width=width, colour=colour), end="")
    return 0


def wait(options: Options, _: str) -> int:
    """Wait until a rented node has set itself up (docs/how-to/gcp.md)."""
    ready = wait_for_node(options.ssh, make_progress(), options.ready_timeout)
    print(f"the node is ready: {ready}")
    return 0


def list_options(_: Options, __: str) -> int:
    """Print all options, also those of pytest, as a page of Markdown."""
    print(options_page(), end="")
    return 0


ARMS = "ARM|all"
COMMANDS = (
    Command(
        "compare",
        compare,
        "PATH",
        several=True,
        epilog="with two PATHs, A and B, result files of other tools or folders with some: B is "
        "judged against A; exit codes: 0 held, 1 failed (SLO missed, or worse), 2 usage error, "
        "3 undecided, 4 invalid (the instrument failed)",
    ),
    Command("convert", take_over, "FOLDER"),
    Command(
        "watch",
        watch_runs,
        epilog="exit codes: 0 all are steady, 1 a metric moved, 2 usage error, 3 insufficient data "
        "(docs/how-to/watch.md)",
    ),
    Command(
        "dashboard",
        dashboard,
        "FOLDER",
        several=True,
        epilog="FOLDERs with results of this suite, aiperf or genai-perf are shown beside --results"
        " (docs/how-to/dashboard.md)",
    ),
    Command("gates", gates),
    Command("peers", peers),
    Command("manifests", manifests),
    Command("deploy", deploy, ARMS, several=True),
    Command("status", status, ARMS, several=True),
    Command(
        "health",
        health,
        ARMS,
        several=True,
        epilog="exit codes: 0 all is well, 1 something is wrong or nothing is deployed, 2 usage "
        "error or an environment that cannot be reached, 130 Ctrl-C",
    ),
    Command("logs", logs, ARMS, several=True),
    Command("teardown", teardown, ARMS, several=True),
    Command("wait", wait),
    Command("options", list_options),
)


def _print_summary(judgements: Sequence[Judgement], factorials: Sequence[Factorial] = ()) -> None:
    width, colour = terminal()
    print(summary_text(judgements, width=width, colour=colour, factorials=factorials))
