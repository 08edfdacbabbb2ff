"""Every option of pytest and of `python -m bench`, declared once.

The declaration of an option is a field of `Options`: name, type, default, help, parser and the
commands that take it. `bench.cli.options` makes from it the options of pytest and of the commands,
reads what was typed, and prints docs/reference/options.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from bench.config.factors import FactorText, parse_factor
from bench.config.profiles import PROFILES
from bench.config.slo import DEFAULT_SLO
from bench.config.texts import (
    count,
    names,
    port_number,
    process_count,
    seconds,
    seconds_from_0,
    several_names,
)
from bench.config.topology import DEFAULT_TOPOLOGY, Hardware, Layout
from bench.drivers import DRIVERS
from bench.load.plan.traces.files import WHOLE, Cut, parse_cut
from bench.paths import ROOT
from bench.records import Expectation

PYTEST = "pytest"
# What operates an environment.
OPERATE = ("deploy", "status", "health", "logs", "teardown")
SHOW = ("status", "health")
# The control and the treatment, unless arms are named.
DEFAULT_ARMS = ("baseline", "managed")
FORMATS = ("md", "json", "junit", "csv", "html", "llmd")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class EnvironmentEntry:
    """A value of `--env`: a package in bench/environments/, and what engines run on by default.

    The package's module `environment` has `make_environment(config, progress)`. If the environment
    is `operated`, its module `operations` has `make_operations(options, topology, progress)`.
    """

    package: str
    hardware: Hardware
    operated: bool = False


ENVIRONMENTS: Mapping[str, EnvironmentEntry] = {
    "local": EnvironmentEntry("local", "cpu", operated=True),
    "k8s": EnvironmentEntry("kubernetes", "gpu", operated=True),
    "docker": EnvironmentEntry("docker", "gpu", operated=True),
    "external": EnvironmentEntry("external", "gpu"),
}
OPERATED = tuple(name for name, entry in ENVIRONMENTS.items() if entry.operated)


def option(default: Value, meaning: str, metavar: str = "", **more: Any) -> Value:
    """A field of `Options`; `more` are further fields of `bench.cli.options.Option`.

    Among these, `variants` says what differs for some commands: by commands, the fields that do.
    """
    declared = {"meaning": meaning, "metavar": metavar, **more}
    made: Value = field(default=default, metadata=declared)
    return made


@dataclass(frozen=True, slots=True)
class Options:
    """The values of all options."""

    env: str = option(
        "local",
        "where engines run",
        choices=tuple(ENVIRONMENTS),
        variants={OPERATE: {"choices": OPERATED}},
    )
    url: tuple[str, ...] = option(
        (),
        "with --env external: the endpoint of a role, control or treatment; further ones are "
        "treatment-2, treatment-3 and so on",
        "ROLE=URL",
        many=True,
    )
    endpoints: str | None = option(
        None,
        "with --env external: replicas of one model, in front of which the arms' balancers are "
        "started; or a file with all of it (docs/how-to/endpoints.md)",
        "URL,URL|FILE",
    )
    api_key_env: str | None = option(
        None, "with --env external: the environment variable that has the endpoints' key", "NAME"
    )
    ca: Path | None = option(
        None,
        "with --env external: CAs, in PEM, that sign the endpoints' certificates",
        "FILE",
        parse=Path,
    )
    insecure: bool = option(False, "with --url: take any certificate of the endpoints")
    rate: float | None = option(
        None,
        "requests/s of scenarios with an open loop, in place of a share of capacity",
        "R",
        parse=seconds,
        takes="a number above 0",
    )
    concurrency: int | None = option(
        None,
        "requests in flight in scenarios with a closed loop, in place of a number for each replica",
        "N",
        parse=count,
        takes="a whole number from 1",
        shown="with --env external 8",
    )
    max_requests: int | None = option(
        None,
        "stop before more requests are sent",
        "N",
        parse=count,
        takes="a whole number from 1",
    )
    max_tokens: int | None = option(
        None,
        "stop before more tokens are sent and asked for",
        "N",
        parse=count,
        takes="a whole number from 1",
    )
    yes: bool = option(False, "with --env external: send a large load without asking")
    models: tuple[str, ...] = option(
        (),
        "models of the topology file; with --env external the names by which they are served",
        "A,B",
        parse=names,
        commands=(PYTEST, "deploy"),
        shown="all for the hardware",
        also="--model",
    )
    arms: tuple[str, ...] = option(
        (),
        "arms to compare: the first is the control, each other one a treatment; one arm twice is "
        "an A/A run, which shows the noise floor",
        "CONTROL,TREATMENT,...",
        parse=several_names,
        shown=",".join(DEFAULT_ARMS),
        takes="control,treatment and further treatments (two names or more)",
    )
    factorial: tuple[FactorText, ...] = option(
        (),
        "in place of --arms: two factors with two levels each, the control's first, and four arms, "
        "one for each combination; factors are policy, engine (vanilla, kvcached) and flags of "
        "engines such as max_num_seqs (docs/how-to/arms.md)",
        "FACTOR=LEVEL,LEVEL",
        parse=parse_factor,
        takes="FACTOR=LEVEL,LEVEL",
        count=2,
    )
    profile: str = option("auto", "time for a comparison", choices=tuple(PROFILES))
    slo: Path = option(DEFAULT_SLO, "service level objectives", "FILE", commands=(PYTEST, "gates"))
    topology: Path = option(
        DEFAULT_TOPOLOGY,
        "models, replicas and arms",
        "FILE",
        commands=(PYTEST, *OPERATE, "manifests"),
    )
    seed: int = option(1, "seed of every schedule and prompt", "N", takes="a whole number")
    keep_env: bool = option(
        False,
        "leave the engines (in docker and k8s also balancers and load pods) running for the next "
        "run, or what is there when `deploy` fails; `python -m bench teardown` ends them",
        commands=(PYTEST, "deploy"),
    )
    load_processes: int | None = option(
        None,
        "processes that share the load of a trial, in environment k8s pods; auto: one until its "
        "answers are too many for one, in k8s one",
        "N",
        parse=process_count,
        takes="auto or a whole number from 1",
        shown="auto",
    )
    driver: str = option("builtin", "what sends the load", choices=tuple(DRIVERS))
    traffic: Path | None = option(
        None,
        "a trace for scenario recorded-traffic: Azure LLM inference or BurstGPT (CSV), Mooncake "
        "or Qwen-Bailian (JSON lines)",
        "FILE",
        parse=Path,
    )
    traffic_cut: Cut = option(
        WHOLE, "seconds of the trace to use", "FROM:TO", parse=parse_cut, shown="all"
    )
    hardware: Hardware | None = option(
        None,
        "what engines run on",
        choices=get_args(Hardware),
        commands=(PYTEST, "deploy"),
        shown="cpu for local, gpu for docker and k8s",
    )
    layout: Layout | None = option(
        None,
        "where engines on GPUs are: each has its own, or those of all models share one "
        "(docs/how-to/layouts.md)",
        choices=get_args(Layout),
        commands=(PYTEST, "deploy"),
        shown="the topology's, dedicated",
    )
    kubeconfig: Path | None = option(
        None,
        "how to reach the cluster",
        "FILE",
        parse=Path,
        commands=(PYTEST, *OPERATE),
        shown="$KUBECONFIG, ~/.kube/config",
    )
    context: str | None = option(
        None,
        "context of the kubeconfig",
        "NAME",
        commands=(PYTEST, *OPERATE),
        shown="its current one",
    )
    ssh: str = option(
        "",
        "the command that opens a shell on the node: `terraform output -raw ssh_command`",
        "COMMAND",
        commands=("wait",),
        shown="none: this machine is the node",
    )
    wait_for_run: float = option(
        1800,
        "seconds to wait for another run that measures on this machine, or in environment k8s in "
        "the cluster, where `deploy` and `teardown` do not wait; 0: none",
        "S",
        parse=seconds_from_0,
        takes="seconds from 0",
        commands=(PYTEST, "deploy", "teardown"),
    )
    ready_timeout: float = option(
        1800,
        "seconds that a node, a container or a pod may take to become ready, or pods to end",
        "S",
        parse=seconds,
        takes="seconds above 0",
        commands=(PYTEST, "deploy", "teardown", "wait"),
    )
    undecided: str = option(
        "fail",
        "what becomes of a comparison that noise leaves undecided",
        choices=("fail", "pass"),
        commands=(PYTEST, "compare"),
        variants={("watch",): {"meaning": "what becomes of metrics with insufficient data"}},
    )
    webhook_env: str | None = option(
        None,
        "the environment variable that has a URL, to which the verdict is posted as JSON "
        "(docs/how-to/ci.md)",
        "NAME",
        commands=(PYTEST, "compare"),
    )
    control: tuple[Path, ...] = option(
        (),
        "a result file of another tool, or a folder with some, of the control, in place of A; may "
        "be given several times",
        "PATH",
        many=True,
        parse=Path,
        commands=("compare",),
    )
    treatment: tuple[Path, ...] = option(
        (),
        "the same of the treatment, in place of B",
        "PATH",
        many=True,
        parse=Path,
        commands=("compare",),
    )
    metric: str | None = option(
        None,
        "with result files: the primary metric, whose verdict counts",
        "NAME",
        commands=("compare",),
        shown="TTFT p95, or the next that all files have",
        variants={("watch",): {"meaning": "what is watched", "shown": "each primary metric"}},
    )
    expect: Expectation = option(
        Expectation.NOT_WORSE,
        "with result files: what is expected of the treatment",
        choices=tuple(Expectation),
        commands=("compare",),
    )
    allow_unlike: bool = option(
        False,
        "with result files: compare although models, loads or lengths differ, and say so",
        commands=("compare",),
    )
    results: Path = option(
        ROOT / "results",
        "folder of stored runs",
        "DIR",
        commands=("compare", "convert", "watch", "dashboard"),
    )
    run: str | None = option(
        None, "the stored run", "ID", commands=("compare",), shown="the latest"
    )
    format: str | None = option(
        None,
        "print the run in this format, or write it to --output (docs/reference/formats.md)",
        choices=FORMATS,
        commands=("compare",),
        variants={
            SHOW: {
                "meaning": "print JSON in place of a table (docs/how-to/operate.md)",
                "choices": ("json",),
            },
            ("watch",): {"meaning": "print JSON in place of lines", "choices": ("json",)},
            ("gates",): {"meaning": "print JSON in place of a table", "choices": ("json",)},
        },
    )
    since: str | None = option(
        None,
        "the first stored run that counts: for after a move that was meant",
        "ID",
        commands=("watch",),
        shown="all",
    )
    absolute: bool = option(
        False, "watch each arm's own figures, too, not ratios alone", commands=("watch",)
    )
    watch: bool = option(False, "show it again and again until Ctrl-C", commands=SHOW)
    interval: float = option(
        2.0,
        "with --watch: seconds from one time to the next",
        "S",
        parse=seconds,
        takes="seconds above 0",
        commands=SHOW,
    )
    port: int = option(
        8501,
        "port of the page, on 127.0.0.1",
        "N",
        parse=port_number,
        takes="a whole number from 1 to 65535",
        commands=("dashboard",),
    )
    follow: bool = option(
        False, "print also what is written from now on, until Ctrl-C", commands=("logs",)
    )
    tail: int = option(
        50,
        "lines from the end of each log",
        "N",
        parse=count,
        takes="a whole number from 1",
        commands=("logs",),
    )
    output: Path | None = option(
        None,
        "with --format: where to write; for llmd a new folder, else a file",
        "PATH",
        parse=Path,
        commands=("compare",),
    )
    arm: str = option("converted", "name of what was measured", "NAME", commands=("convert",))
    check: bool = option(
        False,
        "write nothing; exit with 1 and one line if a file differs from the topology",
        commands=("manifests",),
    )
    folder: Path | None = option(
        None,
        "where to write `k8s` and `docker`",
        "DIR",
        parse=Path,
        commands=("manifests",),
        shown="the checkout",
    )
