"""What every environment offers to the rest of the suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from bench.config.topology import Arm, Model
from bench.records import Replica
from bench.sites.base import Site


class Environment(Protocol):
    """A place that runs engines and balancers.

    Life cycle: `site` and `start` once, `arm_routes` and `slowed` any number of times, `stop` once,
    also after an error in between. All waiting is reported to the progress it was made with.

    Where `alternates` is true after `start`, only one arm is up at a time: the one that
    `arm_routes` was asked about last. Coming up again, its replicas are others.
    """

    name: str

    @property
    def alternates(self) -> bool: ...

    def site(self) -> Site:
        """Where loads are sent from and replicas are scraped; needs no engines.

        Raises UserError with one line when its places do not come up.
        """
        ...

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Bring up every replica of `models`; return when each has answered a completion.

        Raises UserError with one line (and the path of the log) when one cannot.
        """
        ...

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """For each of `models`, the base URLs that reach it through the arm, in turn.

        Behind each is a balancer that is ready for all replicas, and so many of them run when
        it returns: it starts what is missing and ends the rest. An environment may keep more
        than one balancer behind a URL.
        """
        ...

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """The replicas that serve the arm, which has been asked for its routes before."""
        ...

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        """A context in which each of `replicas` gets only `share` of a core's time.

        Whatever becomes of this process, they are at full speed again afterwards. Raises
        UserError at its end when they have not been slowed all the time.
        """
        ...

    def tokenizer_folder(self, model: str) -> Path:
        """Folder that holds the model's tokenizer.json and chat template."""
        ...

    def dead_replicas(self) -> tuple[str, ...]:
        """Names of replicas that no longer run, with their log, for an error message."""
        ...

    def processes(self) -> tuple[int, ...] | None:
        """Processes of this machine that serve, besides what this process has started.

        None where engines run elsewhere, or it is not known which processes they are.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """Provenance: engine version, weights kind, pinning, hardware. JSON values."""
        ...

    def stop(self) -> None:
        """Stop balancers, and the engines unless they are to be kept."""
        ...
