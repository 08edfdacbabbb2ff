"""The one configuration of a run, made once from the options and passed down."""

from __future__ import annotations

import datetime
import os
import platform
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.config.endpoints import (
    Endpoint,
    EndpointEntry,
    Endpoints,
    endpoints_from_file,
    endpoints_from_options,
)
from bench.config.factors import FactorialArms, factorial_arms
from bench.config.fitting import require_fit, require_flags
from bench.config.options import DEFAULT_ARMS, ENVIRONMENTS, Options
from bench.config.peers import located
from bench.config.profiles import PROFILES, Profile
from bench.config.slo import Slos, load_slos
from bench.config.topology import Arm, Hardware, Model, Topology, load_topology
from bench.errors import UserError
from bench.load.plan.traces.files import read_trace
from bench.load.plan.traces.replay import Fit, fit_trace
from bench.paths import IN_CHECKOUT, PACKAGES, suite_version
from bench.records import Role, roles_for

_TIME_OF_RUN = "%Y%m%d-%H%M%S"

# Requests in flight at endpoints, of which it is not known how many they run at once.
IN_FLIGHT = 8
_PACKAGES = ("pytest", "uvloop", "httptools", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class Config:
    """The options with the things that they name, checked against each other.

    `arms` has the control and then the treatments, one of which is the control's arm in an A/A
    run. `absent` has what was named besides and is not installed, by the name of the arm, and the
    line that installs it. `levels` has each arm's level of each factor in a factorial run, and
    nothing in others.
    `hardware` is what engines run on. `endpoints` are those of environment external.
    `traffic` is recorded traffic, fitted to the engine. `cache` is the folder of engines, models
    and logs, `results` that of trials and results.
    """

    run_id: str
    options: Options
    topology: Topology
    models: tuple[Model, ...]
    arms: Mapping[Role, Arm]
    absent: Mapping[str, str]
    levels: Mapping[Role, Mapping[str, str]]
    profile: Profile
    slos: Slos
    hardware: Hardware
    endpoints: Endpoints | None
    traffic: Fit | None
    cache: Path
    results: Path

    @property
    def max_num_seqs(self) -> int:
        """Sequences that a replica of the control runs at once, after which all arms' load goes.

        Of endpoints it may not be known, and is 1.
        """
        if self.endpoints is not None:
            return self.endpoints.max_num_seqs or 1
        return self.topology.for_arm(self.arms["control"]).engine_on(self.hardware).max_num_seqs

    @property
    def measures_capacity(self) -> bool:
        """Whether capacity can be measured: replicas, and what they run at once, are known."""
        return self.endpoints is None or self.endpoints.max_num_seqs is not None

    @property
    def in_flight(self) -> int | None:
        """Requests in flight of a closed loop; None: so many as replicas run at once."""
        return self.options.concurrency or (None if self.measures_capacity else IN_FLIGHT)

    @property
    def request_tokens(self) -> tuple[int, int | None]:
        """How many tokens a request may have, and at most has on average where that is bounded."""
        return _request_tokens(self.topology, self.arms.values(), self.hardware, self.endpoints)

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.models)


def resolve(options: Options, root: Path, run_id: str) -> Config:
    """The configuration of a run that keeps its files in `root`.

    Raises UserError for the first mistake.
    """
    require_checkout(options.env)
    hardware, cache = hardware_of(options), root / ".cache"
    if options.env == "k8s" and options.driver != "builtin":
        raise UserError(
            f"driver {options.driver} sends from this machine, which does not reach pods; "
            "use --driver builtin"
        )
    topology = load_topology(options.topology, options.layout)
    made = _factorial(options, topology, hardware)
    # Engines keep clear of the ports of all arms.
    own = {arm.name: arm for arm in made.arms.values()}
    topology = replace(topology, arms={**topology.arms, **own})
    endpoints = _endpoints(options, os.environ)
    absent: Mapping[str, str] = {}
    if endpoints is None:
        models = topology.select_models(options.models, hardware, options.env)
        if not (arms := made.arms):
            arms, absent = _arms(options, topology, cache)
        for arm in arms.values():
            require_fit(topology.for_arm(arm), models, options.env)
    else:
        models = _served(endpoints, options.models)
        if endpoints.balanced:
            arms, absent = _arms(options, topology, cache)
        else:
            arms = _endpoint_arms(endpoints)
        shared = endpoints.arms["control"]
        endpoints = replace(
            endpoints, arms={role: endpoints.arms.get(role, shared) for role in arms}
        )
    require_flags(tuple(arms.values()), options.env, hardware, topology.layout)
    return Config(
        run_id=run_id,
        options=options,
        topology=topology,
        models=models,
        arms=arms,
        absent=absent,
        levels=made.levels,
        profile=PROFILES[options.profile],
        slos=load_slos(options.slo),
        hardware=hardware,
        endpoints=endpoints,
        traffic=_traffic(options, topology, arms.values(), hardware, endpoints),
        cache=cache,
        results=root / "results",
    )


def hardware_of(options: Options) -> Hardware:
    """What engines run on. Raises UserError if the environment does not have that."""
    hardware = options.hardware or ENVIRONMENTS[options.env].hardware
    if hardware == "gpu" and options.env == "local":
        raise UserError(
            "--hardware takes cpu, and gpu with --env docker or k8s, seen 'gpu' with --env local"
        )
    return hardware


def require_checkout(env: str) -> None:
    """Raise UserError for an environment that needs more than what the wheel has."""
    if env in ("docker", "k8s") and not IN_CHECKOUT:
        raise UserError(
            f"--env {env} needs a checkout of the suite, which has its images and manifests, seen "
            "an installed wheel; run this in a checkout, or take --env local or external"
        )


def new_run_id(after: str = "") -> str:
    """A unique name that sorts by time, and after that of another run: `20260131-235959-a1b2`.

    Where the clock has been set back since that one, it has the next second.
    """
    now = datetime.datetime.now(datetime.UTC)
    with suppress(ValueError, OverflowError):  # no name that was made here
        before = datetime.datetime.strptime(f"{after[:15]}Z", f"{_TIME_OF_RUN}%z")
        now = max(now, before + datetime.timedelta(seconds=1))
    return f"{now:{_TIME_OF_RUN}}-{secrets.token_hex(2)}"


def suite_facts(config: Config, arguments: tuple[str, ...]) -> dict[str, Any]:
    """The provenance of a run in any environment: JSON values."""
    flags = {arm.name: arm.engine.given for arm in config.arms.values()}
    return {
        "version": suite_version(),
        "commit": git_commit(PACKAGES / ".git"),
        "arguments": list(arguments),
        "arms": {role: arm.name for role, arm in config.arms.items()},
        **({"engine_flags_of_arms": flags} if any(flags.values()) else {}),
        "layout": config.topology.layout,
        "profile": config.profile.name,
        "seed": config.options.seed,
        "slo_file": config.slos.path.name,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def git_commit(git: Path) -> str | None:
    """The checked-out commit, from git's own files; None where there are none."""
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).exists():
            return (git / ref).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)


def _factorial(options: Options, topology: Topology, hardware: Hardware) -> FactorialArms:
    """The arms of `--factorial`; none without it. Raises UserError."""
    if not options.factorial:
        return FactorialArms({}, {})
    if options.arms:
        raise UserError("--factorial makes the arms that are compared: leave out --arms")
    base = topology.arm(DEFAULT_ARMS[0])
    return factorial_arms(options.factorial, topology, base, options.env, hardware)


def _arms(
    options: Options, topology: Topology, cache: Path
) -> tuple[dict[Role, Arm], dict[str, str]]:
    """The arms by their roles, and those that are not installed; see `Config.absent`.

    Raises UserError if they cannot be compared like this.
    """
    names = options.arms or DEFAULT_ARMS
    arms = tuple(map(topology.arm, names))
    for arm, other in combinations(dict.fromkeys(arms), 2):
        if arm.port == other.port:
            raise UserError(
                f"arms {arm.name!r} and {other.name!r} both use port {arm.port}; "
                "give each its own in the topology file"
            )
    for name, times in Counter(names[1:]).items():
        if times > 1:
            raise UserError(f"--arms names treatment {name!r} {times} times; name each once")
    for arm in arms:
        if arm.connections == "per-request" and options.driver != "builtin":
            raise UserError(
                f"arm {arm.name} wants a connection for each request, which driver"
                f" {options.driver} does not offer; use --driver builtin"
            )
    found = [_installed(arm, options.env, cache) for arm in arms]
    present = [one for one in found if isinstance(one, Arm)]
    absent = {arm.name: one for arm, one in zip(arms, found, strict=True) if isinstance(one, str)}
    if arms[0].name in absent or len(present) < 2:
        raise UserError(f"--arms: {'; '.join(absent.values())}")
    return dict(zip(roles_for(len(present)), present, strict=True)), absent


def _installed(arm: Arm, environment: str, cache: Path) -> Arm | str:
    """The arm with the path of its peer's program, if it has one, or the line that installs it."""
    if arm.peer is None:
        return arm
    if environment not in {"local", "external"}:
        raise UserError(
            f"arm {arm.name} is a program of this machine, which --env {environment} cannot run: "
            "use --env local, or --env external with --endpoints"
        )
    peer = located(arm.peer, cache)
    return arm.peer.absent if peer is None else replace(arm, peer=peer)


def _endpoints(options: Options, environ: Mapping[str, str]) -> Endpoints | None:
    """What the options say of endpoints. Raises UserError where they are not for this environment.

    The text of `--endpoints` is a list of URLs if it has one, else the path of a file.
    """
    given = {"--url": options.url, "--endpoints": options.endpoints}
    if options.env != "external":
        if wrong := [flag for flag, value in given.items() if value]:
            raise UserError(f"{wrong[0]} belongs to --env external, seen --env {options.env}")
        return None
    if options.driver != "builtin":
        raise UserError(f"--env external takes --driver builtin, seen {options.driver}")
    if options.layout is not None:
        raise UserError("--layout is for engines that the suite starts, seen --env external")
    companions = {
        "--api-key-env": options.api_key_env,
        "--ca": options.ca,
        "--insecure": options.insecure,
    }
    text = options.endpoints or ""
    if text and "://" not in text:
        if wrong := [flag for flag, value in {"--url": options.url, **companions}.items() if value]:
            raise UserError(f"{wrong[0]} is given beside --endpoints {text}; write it in that file")
        return endpoints_from_file(Path(text), environ)
    entry = EndpointEntry(api_key_env=options.api_key_env, ca=options.ca, insecure=options.insecure)
    replicas = [url.strip() for url in text.split(",") if url.strip()]
    return endpoints_from_options(options.url, replicas, options.models, entry, environ)


def _served(endpoints: Endpoints, names: Sequence[str]) -> tuple[Model, ...]:
    """The named models of endpoints; all if none is named. Raises UserError for an unknown one."""
    for name in names:
        if name not in endpoints.models:
            known = ", ".join(endpoints.models)
            raise UserError(f"unknown model {name!r}; the file of --endpoints has {known}")
    return tuple(Model(name, hub=name) for name in names or endpoints.models)


def _endpoint_arms(endpoints: Endpoints) -> dict[Role, Arm]:
    """An arm for each endpoint; one for several roles if their endpoints are the same."""
    named: dict[str, Endpoint] = {}
    for endpoint in endpoints.arms.values():
        if named.setdefault(endpoint.name, endpoint) != endpoint:
            raise UserError(f"two endpoints are named {endpoint.name}; give each its own name")
    return {role: Arm(endpoint.name, port=1) for role, endpoint in endpoints.arms.items()}


def _traffic(
    options: Options,
    topology: Topology,
    arms: Iterable[Arm],
    hardware: Hardware,
    endpoints: Endpoints | None,
) -> Fit | None:
    if options.traffic is None:
        return None
    trace = read_trace(options.traffic, options.traffic_cut)
    return fit_trace(trace, *_request_tokens(topology, arms, hardware, endpoints))


def _request_tokens(
    topology: Topology, arms: Iterable[Arm], hardware: Hardware, endpoints: Endpoints | None
) -> tuple[int, int | None]:
    lengths = [] if endpoints is None else [one.max_model_len for one in endpoints.models.values()]
    if known := [length for length in lengths if length is not None]:
        return min(known), None
    length = min(topology.for_arm(arm).engine_on(hardware).max_model_len for arm in arms)
    return length, topology.engine.trace_mean_tokens if hardware == "cpu" else None
