"""The four arms of `--factorial`: every combination of the levels of two factors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from bench.config.fitting import flags_on
from bench.config.topology import Arm, Hardware, Topology
from bench.errors import UserError
from bench.processes.ports import free_ports
from bench.records import Role, roles_for

ENGINE, POLICY = "engine", "policy"
# By level of factor engine: whether engines have KVCached.
ENGINES: Mapping[str, bool] = {"vanilla": False, "kvcached": True}


@dataclass(frozen=True, slots=True)
class FactorText:
    """A factor and its levels as typed, the control's first."""

    name: str
    levels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactorialArms:
    """The arms by their roles, and each one's level of each factor by the factor's name."""

    arms: Mapping[Role, Arm]
    levels: Mapping[Role, Mapping[str, str]]


def parse_factor(text: str) -> FactorText:
    """A factor from `NAME=LEVEL,LEVEL`. Raises ValueError for anything else."""
    name, _, listed = text.partition("=")
    levels = tuple(level.strip() for level in listed.split(","))
    if not name.strip() or not all(levels):
        raise ValueError
    return FactorText(name.strip(), levels)


def factorial_arms(
    factors: Sequence[FactorText],
    topology: Topology,
    base: Arm,
    environment: str,
    hardware: Hardware,
) -> FactorialArms:
    """The arms of two factors; all else they have of arm `base`. The first has the first levels.

    On Kubernetes they are arms of the topology. Raises UserError with one line for factors that
    engines or balancers here do not have.
    """
    _check(factors, topology, environment, hardware)
    # Behind a balancer in any case: kube-proxy is no policy.
    plain = replace(base, kubernetes="balancer")
    taken = {arm.port for arm in topology.arms.values()}
    ports = free_ports(max(taken) + 1, taken)
    arms, levels = {}, {}
    combinations = product(*(factor.levels for factor in factors))
    for role, combined in zip(roles_for(4), combinations, strict=True):
        made = replace(plain, name="-".join(_labels(factors, combined)), port=next(ports))
        for factor, level in zip(factors, combined, strict=True):
            made = _with_level(made, factor.name, level, topology)
        arms[role] = _in_topology(made, topology) if environment == "k8s" else made
        levels[role] = {factor.name: level for factor, level in zip(factors, combined, strict=True)}
    return FactorialArms(arms, levels)


def _in_topology(made: Arm, topology: Topology) -> Arm:
    """The arm of the topology that is like this one: only such an arm has manifests in k8s/.

    Raises UserError if there is none.
    """
    for arm in topology.arms.values():
        if replace(made, name=arm.name, port=arm.port) == arm:
            return arm
    raise UserError(
        f"--env k8s has no manifests for an arm like {made.name}: add it to the topology file, "
        "with a port of its own, and run python -m bench manifests"
    )


def _labels(factors: Sequence[FactorText], levels: Sequence[str]) -> Iterator[str]:
    """Parts of an arm's name: `round-robin`, or of a flag with its name: `max-num-seqs-8`."""
    for factor, level in zip(factors, levels, strict=True):
        named = factor.name in (ENGINE, POLICY)
        yield level if named else f"{factor.name.replace('_', '-')}-{level}"


def _with_level(arm: Arm, name: str, level: str, topology: Topology) -> Arm:
    if name == ENGINE:
        return replace(arm, kvcached=ENGINES[level])
    if name == POLICY:
        return replace(arm, policy=level, command=None, options=_policies(topology)[level])
    flag: dict[str, Any] = {name: _number(name, level)}
    return replace(arm, engine=replace(arm.engine, **flag))


def _check(
    factors: Sequence[FactorText], topology: Topology, environment: str, hardware: Hardware
) -> None:
    """Raise UserError for the first mistake."""
    names = [factor.name for factor in factors]
    if environment == "external":
        raise UserError("--factorial makes arms, and engines of --env external run already")
    if len(set(names)) < len(names):
        raise UserError(f"--factorial names {names[0]} twice; name two factors")
    for factor in factors:
        _check_levels(factor)
        if factor.name == ENGINE:
            _check_known(factor, tuple(ENGINES))
            if hardware == "cpu":
                raise UserError(
                    "--factorial engine needs GPUs: KVCached needs CUDA, and on CPUs both levels "
                    "would be vanilla vLLM; take another factor, or --hardware gpu with --env "
                    "docker or k8s"
                )
        elif factor.name == POLICY:
            _check_known(factor, tuple(_policies(topology)))
        elif factor.name in flags_on(hardware):
            if len({_number(factor.name, level) for level in factor.levels}) < 2:
                raise UserError(
                    f"--factorial: both levels of {factor.name} are {factor.levels[0]}; "
                    "they are to differ"
                )
        else:
            known = ", ".join((ENGINE, POLICY, *flags_on(hardware)))
            raise UserError(f"--factorial has no factor {factor.name!r}; known: {known}")


def _check_levels(factor: FactorText) -> None:
    count = len(set(factor.levels))
    if count != 2 or len(factor.levels) != 2:
        seen = ", ".join(factor.levels)
        raise UserError(
            f"--factorial takes two levels of each factor, seen {factor.name}: {seen}; of more, "
            "measure two at a time, or name arms with --arms"
        )


def _check_known(factor: FactorText, known: Sequence[str]) -> None:
    for level in factor.levels:
        if level not in known:
            raise UserError(
                f"--factorial: {factor.name} {level!r} is not known; known: {', '.join(known)}"
            )


def _policies(topology: Topology) -> dict[str, tuple[str, ...]]:
    """The policies of the topology's arms, each with the fewest options that an arm has."""
    found: dict[str, tuple[str, ...]] = {}
    for arm in sorted(topology.arms.values(), key=lambda one: len(one.options)):
        if arm.policy is not None:
            found.setdefault(arm.policy, arm.options)
    return found


def _number(name: str, level: str) -> int | float:
    """The value of a flag. Raises UserError for a text that is none."""
    share = name == "gpu_memory_utilization"
    try:
        value = float(level) if share else int(level)
    except ValueError:
        value = 0
    if not (0 < value <= 1 if share else value >= 1):
        takes = "a number above 0, at most 1" if share else "a whole number from 1"
        raise UserError(f"--factorial: {name} takes {takes}, seen {level!r}")
    return value
