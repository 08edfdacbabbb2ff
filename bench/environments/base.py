"""What every environment offers to the rest of the suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.records import Replica
from bench.topology import Arm, Model


class Environment(Protocol):
    """A place that runs engines and balancers.

    Life cycle: `start` once, `arm_url` any number of times, `stop` once, also after
    an error in between. All waiting is reported to the progress it was made with.
    """

    name: str

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Bring up every replica of `models`; return when each has answered a completion.

        Raises UserError with one line (and the path of the log) when one cannot.
        """
        ...

    def arm_url(self, arm: Arm) -> str:
        """Base URL of the arm's balancer, started at first use, ready for all replicas."""
        ...

    def tokenizer_folder(self, model: str) -> Path:
        """Folder that holds the model's tokenizer.json and chat template."""
        ...

    def dead_replicas(self) -> tuple[str, ...]:
        """Names of replicas that no longer run, with their log, for an error message."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Provenance: engine version, weights kind, pinning, hardware. JSON values."""
        ...

    def stop(self) -> None:
        """Stop balancers, and the engines unless they are to be kept."""
        ...
