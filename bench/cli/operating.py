"""The commands that operate an environment: `deploy`, `status`, `health`, `logs`, `teardown`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module

from rich.live import Live
from rich.text import Text

from bench.cli.health import check_all
from bench.cli.log_lines import log_lines
from bench.cli.service_tables import (
    health_json,
    health_table,
    is_healthy,
    json_text,
    status_json,
    status_table,
)
from bench.config.config import hardware_of, require_checkout
from bench.config.fitting import require_fit, require_flags
from bench.config.options import DEFAULT_ARMS, ENVIRONMENTS, Options
from bench.config.topology import Arm, Topology, load_topology
from bench.console import terminal
from bench.environments.operations import Operations, Service
from bench.errors import UserError
from bench.progress import make_progress

ALL = "all"


def deploy(options: Options, names: Sequence[str]) -> int:
    """Bring arms up, which stay up; by default the two that are compared."""
    topology = load_topology(options.topology, options.layout)
    arms = _arms(topology, names) or list(map(topology.arm, DEFAULT_ARMS))
    if peers := [arm.name for arm in arms if arm.peer is not None]:
        raise UserError(f"arm {peers[0]} is started by runs that measure it: leave it out here")
    models = topology.select_models(options.models, hardware_of(options), options.env)
    operations = _operations(options, topology)
    for arm in arms:
        require_fit(topology.for_arm(arm), models, options.env)
    require_flags(arms, options.env, hardware_of(options), topology.layout)
    what = ", ".join(arm.name for arm in arms)
    with operations.hold(f"deploying {what}", make_progress(), options.wait_for_run):
        operations.deploy(arms, models, keep=options.keep_env)
    print(_status_text(options, _services(operations, arms)))
    print(f"up: {what}; `{_command(options, 'teardown')}` ends that")
    return 0


def status(options: Options, names: Sequence[str]) -> int:
    """Show what is deployed, without asking it."""
    topology = load_topology(options.topology)
    arms, operations = _arms(topology, names), _operations(options, topology)

    def look() -> tuple[str, int]:
        return _status_text(options, _services(operations, arms)), 0

    return _show(look, options)


def health(options: Options, names: Sequence[str]) -> int:
    """Ask every balancer and engine how it is; exit code 1 if anything is wrong."""
    topology = load_topology(options.topology)
    arms, operations = _arms(topology, names), _operations(options, topology)

    def look() -> tuple[str, int]:
        found = check_all(operations, _services(operations, arms))
        code = 0 if is_healthy(found) else 1
        if options.format is not None:
            return json_text(health_json(options.env, found), one_line=options.watch), code
        width, colour = terminal()
        return health_table(found, width=width, colour=colour) if found else _nothing(options), code

    return _show(look, options)


def logs(options: Options, names: Sequence[str]) -> int:
    """Print the end of the logs of balancers and engines."""
    topology = load_topology(options.topology)
    operations = _operations(options, topology)
    services = [one for one in _services(operations, _arms(topology, names)) if one.log]
    if not services:
        raise UserError(_nothing(options))
    for line in log_lines(operations, services, options.tail, follow=options.follow):
        print(line, flush=options.follow)
    return 0


def teardown(options: Options, names: Sequence[str]) -> int:
    """End arms, by default all that is there."""
    topology = load_topology(options.topology)
    arms = _arms(topology, names)
    what = f"arm {', '.join(arm.name for arm in arms)}" if arms else "all that was deployed"
    operations = _operations(options, topology)
    with operations.hold(f"ending {what}", make_progress(), options.wait_for_run):
        gone = operations.teardown(arms or None)
    nothing = f"nothing of {what} is there" if arms else _nothing(options)
    print(f"{what} is gone" if gone else nothing)
    return 0


def _arms(topology: Topology, names: Sequence[str]) -> list[Arm]:
    """The named arms; none for all."""
    return [] if ALL in names else [topology.arm(name) for name in dict.fromkeys(names)]


def _operations(options: Options, topology: Topology) -> Operations:
    """The operations of the environment that the options name.

    Raises UserError for an option that it does not have.
    """
    require_checkout(options.env)
    if options.env != "k8s":
        for flag, value in (("--kubeconfig", options.kubeconfig), ("--context", options.context)):
            if value is not None:
                raise UserError(f"{flag} belongs to --env k8s, seen --env {options.env}")
    package = ENVIRONMENTS[options.env].package
    module = import_module(f"bench.environments.{package}.operations")
    made: Operations = module.make_operations(options, topology, make_progress())
    return made


def _services(operations: Operations, arms: Sequence[Arm]) -> tuple[Service, ...]:
    """What is deployed of `arms`, none for all; an arm of which nothing is there is a row too."""
    if not arms:
        return operations.services(None)
    found = dict[tuple[str, str], Service]()  # arms may share engines
    for arm in arms:
        absent = Service("balancer", arm.name, arm=arm.name, state="not deployed")
        for one in operations.services([arm]) or (absent,):
            found[one.kind, one.name] = one
    return tuple(sorted(found.values(), key=lambda one: one.kind))


def _status_text(options: Options, services: Sequence[Service]) -> str:
    if options.format is not None:
        return json_text(status_json(options.env, services), one_line=options.watch)
    width, colour = terminal()
    return status_table(services, width=width, colour=colour) if services else _nothing(options)


def _nothing(options: Options) -> str:
    return f"nothing is deployed in environment {options.env}; see `{_command(options, 'deploy')}`"


def _command(options: Options, name: str) -> str:
    return f"python -m bench {name} --env {options.env}"


def _show(look: Callable[[], tuple[str, int]], options: Options) -> int:
    """Print what `look` gives, and return its exit code; with --watch until Ctrl-C."""
    text, code = look()
    if not options.watch:
        print(text)
        return code
    if not sys.stdout.isatty() or options.format is not None:
        while True:
            print(text, flush=True)
            time.sleep(options.interval)
            text, _ = look()
    with Live(_as_shown(text), auto_refresh=False) as live:
        while True:
            time.sleep(options.interval)
            live.update(_as_shown(look()[0]), refresh=True)


def _as_shown(text: str) -> Text:
    """A text whose lines have been broken, and coloured, already."""
    return Text.from_ansi(text, no_wrap=True, overflow="ignore")
