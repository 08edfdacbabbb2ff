"""Replicas in a given state, for policies to choose from."""

from __future__ import annotations

from random import Random

from lb.endpoint import Endpoint
from lb.engine_metrics import EngineGauges
from lb.policies import POLICIES, Policy
from lb.replicas import Replica, Request

POLL_S = 1.0


def make_replica(index: int = 0, *models: str, capacity: float = 1.0) -> Replica:
    """A healthy replica that serves `models` (default: "m")."""
    replica = Replica(Endpoint("10.0.0.1", 8000 + index, f"10.0.0.1:{8000 + index}"), capacity)
    replica.mark_healthy({model: {"id": model} for model in models or ("m",)})
    return replica


def make_replicas(count: int) -> list[Replica]:
    return [make_replica(index) for index in range(count)]


def make_policy(name: str, seed: int = 1) -> Policy:
    return POLICIES[name].make(Random(seed), POLL_S)


def request(
    model: str = "m", prompt_tokens: int = 100, at_s: float = 0.0, key: int | None = None
) -> Request:
    return Request(model, prompt_tokens, at_s, key)


def poll(replica: Replica, waiting: float, at_s: float, generated: float = 0.0) -> None:
    """A poll that no request is answered during."""
    replica.observe(EngineGauges(waiting, generated), replica.unanswered, at_s)
