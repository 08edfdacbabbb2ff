"""What is said of the server's side: how an arm loaded its replicas."""

from __future__ import annotations

from dataclasses import dataclass

from bench.analysis.readings import total
from bench.records import Role


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """How a replica was loaded, or all replicas of an arm. None: not known, which is not 0.

    `requests` are those that the arm sent there. Queue depth (`waiting_*`) and `running_mean`
    are requests in one replica; means are over the time in which load was offered, maxima
    up to the last answer, `kv_cache_usage_max` a share of the cache. All else are counts over
    the trials: `finished` requests and tokens are the replica's own counts, and so include
    what went past the arm; `prefix_queries` and `prefix_hits` are prompt tokens looked up and
    found in the prefix cache.
    """

    requests: float | None
    waiting_mean: float | None
    waiting_max: float | None
    running_mean: float | None
    kv_cache_usage_max: float | None
    preemptions: float | None
    prefix_queries: float | None
    prefix_hits: float | None
    prompt_tokens: float | None
    generation_tokens: float | None
    finished: float | None

    @property
    def prefix_hit_rate(self) -> float | None:
        """Prompt tokens found in the prefix cache / looked up there."""
        if self.prefix_hits is None or not self.prefix_queries:
            return None
        return self.prefix_hits / self.prefix_queries


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """A replica's load over an arm's trials, and how its metrics could be read.

    `failed` of `scrapes` brought nothing, the first of them for the reason `error`; the
    others' answers came up to `late_p95_s` after they were due.
    """

    replica: str
    model: str
    load: ServerLoad
    scrapes: int
    failed: int
    late_p95_s: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ServerSummary:
    """The server's side of all judged trials of an arm.

    `imbalance` is the load imbalance factor: requests of the busiest replica / mean over the
    replicas of its model, the largest of any model, mean over trials. 1 is an even split;
    of two replicas it is 2 where one gets everything. `total` is of all replicas together:
    the mean of their means, the highest of their maxima, the sum of their counts. `replicas`
    are all that have served in any of the trials.
    """

    role: Role
    arm: str
    imbalance: float | None
    total: ServerLoad
    replicas: tuple[ReplicaLoad, ...]

    @property
    def scraped(self) -> bool:
        """Whether there are any readings, of success or not."""
        return any(one.scrapes for one in self.replicas)

    def replica(self, name: str) -> ServerLoad:
        """The load of one replica. Raises KeyError for a name that is none's."""
        return {one.replica: one.load for one in self.replicas}[name]

    def share(self, name: str) -> float | None:
        """A replica's requests / those to all replicas of its model."""
        model = {one.replica: one.model for one in self.replicas}[name]
        own = self.replica(name).requests
        everything = total(one.load.requests for one in self.replicas if one.model == model)
        return None if own is None or not everything else own / everything
