"""Which scenarios can be measured with the load and at the endpoints that were given."""

from __future__ import annotations

from bench.config.config import Config
from bench.config.topology import Arm
from bench.experiment.scenario import Scenario


def why_not(scenario: Scenario, config: Config) -> str | None:
    """Why a scenario cannot be measured, to follow its name; None if it can."""
    return (
        _why_not_load(scenario, config)
        or _why_not_arms(scenario, config)
        or _why_not_endpoints(scenario, config)
    )


def _why_not_load(scenario: Scenario, config: Config) -> str | None:
    """A load that is searched for is neither given nor relates to an unknown capacity."""
    if scenario.search is None:
        return None
    if config.options.rate is not None:
        return "searches for the load itself, which --rate fixes"
    if not config.measures_capacity:
        return "searches for the load around a capacity, which is not measured at endpoints"
    return None


def _why_not_arms(scenario: Scenario, config: Config) -> str | None:
    """In overload one arm at least bounds what it accepts: all else ends in an endless queue."""
    if not scenario.overload or any(map(_may_reject, config.arms.values())):
        return None
    return "sends more than can be served: compare an arm that bounds it, such as managed"


def _may_reject(arm: Arm) -> bool:
    """Whether the arm may reject requests; of what is not this project's balancer it may be so."""
    bounds = ("--late-binding", "--max-in-flight", "--max-queued", "--queue-timeout")
    return arm.policy is None or any(option.startswith(bounds) for option in arm.options)


def _why_not_endpoints(scenario: Scenario, config: Config) -> str | None:
    """The scenario's conditions can be made from outside."""
    endpoints = config.endpoints
    if endpoints is None:
        return None
    if scenario.slowed is not None:
        return "slows one replica, which cannot be done to an endpoint"
    if scenario.balancers > 1 and not endpoints.balanced:
        return "needs several balancers for each arm: give replicas with --endpoints"
    if scenario.bypass and not all(one.replicas for one in endpoints.arms.values()):
        return "sends some requests straight to replicas: list them in a file for --endpoints"
    return None
