"""`python -m bench`: what can be done without pytest."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.analysis.outcome import EXIT_CODES, Outcome, outcome_line, overall
from bench.command import run_program
from bench.config import READY_TIMEOUT_S, UNDECIDED, new_run_id
from bench.conversion import convert
from bench.environments.kubernetes import commands as cluster
from bench.environments.kubernetes.cluster import Access
from bench.environments.kubernetes.deploying import DeployedArm
from bench.environments.kubernetes.manifests.files import (
    K8S,
    first_difference,
    manifest_files,
    suite_version,
    write_files,
)
from bench.environments.local import kept_engines, stop_kept
from bench.errors import UserError
from bench.progress import make_progress
from bench.review import review
from bench.store import TrialStore
from bench.topology import DEFAULT_TOPOLOGY, load_topology
from reports.terminal import summary_text

ROOT = Path(__file__).parent.parent
INTERRUPTED = 130
CLUSTER_COMMANDS = {
    "deploy": "bring an arm up in a Kubernetes cluster",
    "status": "how an arm's replicas in a cluster do",
    "teardown": "take an arm down in a cluster",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    again = commands.add_parser(
        "compare",
        help="judge a stored run again",
        epilog="exit codes: 0 held, 1 failed (SLO missed, or worse), 2 usage error, 3 undecided, "
        "4 invalid (the instrument failed)",
    )
    again.add_argument("--results", type=Path, default=ROOT / "results", metavar="DIR")
    again.add_argument("--run", dest="run_id", metavar="ID", help="default: the latest run")
    again.add_argument(
        "--undecided",
        choices=UNDECIDED,
        default=UNDECIDED[0],
        help="exit with 3 where noise decides nothing, or with 0 (default: %(default)s)",
    )
    again.set_defaults(run=compare)
    foreign = commands.add_parser("convert", help="take over artifacts of aiperf or genai-perf")
    foreign.add_argument("folder", type=Path, metavar="FOLDER")
    foreign.add_argument("--arm", default="converted", metavar="NAME", help="what was measured")
    foreign.add_argument("--results", type=Path, default=ROOT / "results", metavar="DIR")
    foreign.set_defaults(run=take_over)
    made = commands.add_parser("manifests", help="make k8s/ follow the topology file")
    made.add_argument("--check", action="store_true", help="only say what does not, exit 1 then")
    made.add_argument("--topology", type=Path, default=DEFAULT_TOPOLOGY, metavar="FILE")
    made.add_argument("--folder", type=Path, default=K8S, metavar="DIR", help="in place of k8s/")
    made.set_defaults(run=manifests)
    for name, what in CLUSTER_COMMANDS.items():
        _add_cluster_command(commands.add_parser(name, help=what), name)
    env = commands.add_parser("env", help="engines that --keep-env left running")
    env.add_argument("action", choices=("status", "stop"))
    env.set_defaults(run=kept_environment)
    return top


def _add_cluster_command(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument("arm", metavar="ARM", help="an arm of the topology file")
    command.add_argument("--env", choices=("k8s",), default="k8s", help="where (default: k8s)")
    command.add_argument("--topology", type=Path, default=DEFAULT_TOPOLOGY, metavar="FILE")
    command.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config"
    )
    command.add_argument("--context", metavar="NAME", help="default: the kubeconfig's current one")
    command.add_argument(
        "--ready-timeout",
        "--timeout",
        dest="timeout",
        type=float,
        default=READY_TIMEOUT_S,
        metavar="S",
        help="how long to wait for replicas, and for pods to end (default: %(default)g seconds)",
    )
    if name == "deploy":
        command.add_argument(
            "--models", default="", metavar="A,B", help="default: all for the hardware"
        )
        command.add_argument(
            "--hardware", choices=("cpu", "gpu"), default="gpu", help="default: %(default)s"
        )
        command.add_argument(
            "--keep-env", action="store_true", help="leave what is there when it fails"
        )
    command.set_defaults(run=in_cluster, command=name)


def in_cluster(options: argparse.Namespace) -> int:
    """Deploy an arm, say how its replicas do, or take it down."""
    topology, progress = load_topology(options.topology), make_progress()
    arm = topology.arm(options.arm)
    access = Access.chosen(options.kubeconfig, options.context, os.environ)
    try:
        if options.command == "deploy":
            names = tuple(filter(None, map(str.strip, options.models.split(","))))
            wanted = DeployedArm(arm, topology.select_models(names, options.hardware))
            cluster.deploy_arm(access, wanted, progress, options.timeout, keep=options.keep_env)
            print(f"arm {arm.name} is up; python -m bench teardown {arm.name} takes it down")
        elif options.command == "status":
            width, colour = shutil.get_terminal_size((120, 24)).columns, sys.stdout.isatty()
            print(cluster.status_of(access, arm, width=width, colour=colour))
        else:
            gone = cluster.take_down(access, arm, progress, options.timeout)
            print(f"arm {arm.name} is gone" if gone else f"nothing of arm {arm.name} is there")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def compare(options: argparse.Namespace) -> int:
    """Print the verdict table of a stored run, judged again; its outcome is the exit code."""
    judgements = [judgement for judgement, _ in review(TrialStore(options.results), options.run_id)]
    width = shutil.get_terminal_size((120, 24)).columns
    print(summary_text(judgements, width=width, colour=sys.stdout.isatty()))
    print(outcome_line(judgements))
    outcome = overall(judgements)
    undecided_passes = outcome is Outcome.UNDECIDED and options.undecided == "pass"
    return 0 if undecided_passes else EXIT_CODES[outcome]


def take_over(options: argparse.Namespace) -> int:
    """Store what another tool has measured, and print it."""
    judgement, path = convert(options.folder, options.arm, new_run_id(), options.results)
    width = shutil.get_terminal_size((120, 24)).columns
    print(summary_text([judgement], width=width, colour=sys.stdout.isatty()))
    print(f"results: {path}")
    return 0


def manifests(options: argparse.Namespace) -> int:
    """Write what is generated under k8s/, or say which of it differs from the topology."""
    topology = load_topology(options.topology)
    files = manifest_files(topology, suite_version())
    if options.check:
        if difference := first_difference(options.folder, files):
            print(f"{difference}; run python -m bench manifests", file=sys.stderr)
        return 1 if difference else 0
    write_files(options.folder, files)
    print(f"{len(files)} files written to {options.folder}")
    return 0


def kept_environment(options: argparse.Namespace) -> int:
    """List the engines that a run has kept, or end them."""
    if options.action == "stop":
        stopped = stop_kept(ROOT / ".cache", make_progress())
        print("engines stopped" if stopped else "no engines are running")
    else:
        print("\n".join(kept_engines(ROOT / ".cache")) or "no engines are running")
    return 0

from bench.cli.commands import main
from bench.console import run_program

if __name__ == "__main__":
    run_program(main)
