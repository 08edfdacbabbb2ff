"""The one configuration of a run, made once from the command line and passed down."""

from __future__ import annotations

import datetime
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from bench.config.profiles import Profile, profile_named
from bench.config.slo import DEFAULT_SLO, Slos, load_slos
from bench.config.topology import DEFAULT_TOPOLOGY, Arm, Hardware, Model, Topology, load_topology
from bench.drivers import DRIVERS
from bench.errors import UserError
from bench.load.traces import Fit, fit_trace, parse_cut, read_trace

# What engines run on in each environment unless the user says so.
HARDWARE: Mapping[str, Hardware] = {"local": "cpu", "k8s": "gpu"}
ENVIRONMENTS = tuple(HARDWARE)
AUTO = "auto"
UNDECIDED = ("fail", "pass")
READY_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the user typed; every field has the default that `--help` names."""

    env: str = "local"
    models: str = ""
    arms: str = "baseline,managed"
    profile: str = "auto"
    slo: Path = DEFAULT_SLO
    topology: Path = DEFAULT_TOPOLOGY
    seed: int = 1
    keep_env: bool = False
    load_processes: str = AUTO
    driver: str = "builtin"
    traffic: Path | None = None
    traffic_cut: str = ":"
    undecided: str = "fail"
    hardware: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    ready_timeout: float = READY_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Config:
    """The options, checked and resolved against the files they name.

    `control` and `treatment` are the two arms; the same arm twice is an A/A run.
    `hardware` is what engines run on; `kubeconfig` and `context` tell the cluster of environment
    k8s, whose replicas may take `ready_timeout_s` to become ready. `driver` sends the load.
    `load_processes` is how many share it, None for as many as that takes. `undecided` is what
    becomes of a test that noise leaves undecided. `traffic` is recorded traffic, fitted to the
    engine. `cache` holds engines, models and logs, `results` what was measured.
    """

    run_id: str
    env: str
    topology: Topology
    models: tuple[Model, ...]
    control: Arm
    treatment: Arm
    profile: Profile
    slos: Slos
    seed: int
    keep_env: bool
    load_processes: int | None
    driver: str
    traffic: Fit | None
    cache: Path
    results: Path
    undecided: str = "fail"
    hardware: Hardware = "cpu"
    kubeconfig: Path | None = None
    context: str | None = None
    ready_timeout_s: float = READY_TIMEOUT_S

    @property
    def slots(self) -> int:
        """Sequences that a replica runs at once."""
        cpu, gpu = self.topology.engine, self.topology.gpu_engine
        return cpu.max_num_seqs if self.hardware == "cpu" else gpu.max_num_seqs

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.models)


def resolve(options: Options, root: Path, run_id: str) -> Config:
    """Check the options. Raises UserError with one line for the first mistake."""
    if options.env not in ENVIRONMENTS:
        raise UserError(f"unknown environment {options.env!r}; known: {', '.join(ENVIRONMENTS)}")
    if options.driver not in DRIVERS:
        raise UserError(f"unknown driver {options.driver!r}; known: {', '.join(DRIVERS)}")
    if options.undecided not in UNDECIDED:
        raise UserError(f"--undecided takes {' or '.join(UNDECIDED)}, seen {options.undecided!r}")
    if not 0 < options.ready_timeout < math.inf:
        raise UserError(f"--ready-timeout takes seconds above 0, seen {options.ready_timeout:g}")
    if options.env == "k8s" and options.driver != "builtin":
        raise UserError(
            f"driver {options.driver} sends from this machine, which does not reach pods; "
            "use --driver builtin"
        )
    hardware = _hardware(options)
    topology = load_topology(options.topology)
    control, treatment = _two_arms(options.arms, topology)
    for arm in (control, treatment):
        if arm.connections == "per-request" and options.driver != "builtin":
            raise UserError(
                f"arm {arm.name} wants a connection for each request, which driver"
                f" {options.driver} does not offer; use --driver builtin"
            )
    return Config(
        run_id=run_id,
        env=options.env,
        topology=topology,
        models=topology.select_models(_names(options.models), hardware),
        control=control,
        treatment=treatment,
        profile=profile_named(options.profile),
        slos=load_slos(options.slo),
        seed=options.seed,
        keep_env=options.keep_env,
        load_processes=_load_processes(options.load_processes),
        driver=options.driver,
        traffic=_traffic(options, topology, hardware),
        cache=root / ".cache",
        results=root / "results",
        undecided=options.undecided,
        hardware=hardware,
        kubeconfig=options.kubeconfig,
        context=options.context,
        ready_timeout_s=options.ready_timeout,
    )


def _hardware(options: Options) -> Hardware:
    if options.hardware is None:
        return HARDWARE[options.env]
    for known in get_args(Hardware):
        if options.hardware == known and (known == "cpu" or options.env == "k8s"):
            return cast(Hardware, known)
    raise UserError(
        f"--hardware takes cpu, and gpu with --env k8s, seen {options.hardware!r} with --env "
        f"{options.env}"
    )


def _load_processes(text: str) -> int | None:
    if text == AUTO:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--load-processes takes {AUTO} or a whole number from 1, seen {text!r}")
    return int(text)


def _traffic(options: Options, topology: Topology, hardware: Hardware) -> Fit | None:
    cut = parse_cut(options.traffic_cut)
    if options.traffic is None:
        return None
    engine = topology.engine
    trace = read_trace(options.traffic, cut)
    if hardware == "gpu":
        return fit_trace(trace, topology.gpu_engine.max_model_len, None)
    return fit_trace(trace, engine.max_model_len, engine.trace_mean_tokens)


def new_run_id() -> str:
    """A name that sorts by time and is unique: `20260131-235959-a1b2`."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _two_arms(text: str, topology: Topology) -> tuple[Arm, Arm]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2:
        raise UserError(f"--arms takes control,treatment (two names), seen {text!r}")
    control, treatment = (topology.arm(name) for name in names)
    if control != treatment and control.port == treatment.port:
        raise UserError(
            f"arms {control.name!r} and {treatment.name!r} both use port {control.port}; "
            "give each its own in the topology file"
        )
    return control, treatment
