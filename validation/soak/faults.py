"""Random faults of replicas, one after the other, each undone before the next one."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Sequence

from bench.errors import UserError
from bench.processes.guard import signal_group
from bench.processes.throttle import slowed
from bench.progress import Progress
from validation.soak.replicas import Upstream

KINDS = ("kill", "restart", "hang", "slow", "garbage")
_SLOWED_SHARE = 0.2


class Faults(threading.Thread):
    """Injects faults until `end`, each for up to `longest_s`, with rests between them.

    `done` counts them by kind, and `now` says what is wrong at the moment. `failed` is why it ended
    by itself: a replica that did not come back.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        garbage: Upstream,
        longest_s: float,
        seed: int,
        progress: Progress,
    ) -> None:
        super().__init__(daemon=True)
        self.done = Counter[str]()
        self.now = ""
        self.failed = ""
        self._upstreams = upstreams
        self._garbage = garbage
        self._longest_s = longest_s
        self._rng = random.Random(seed)
        self._progress = progress
        self._ending = threading.Event()

    def end(self) -> None:
        """Inject no more; returns when the last fault has been undone."""
        self._ending.set()
        self.join()

    def abandon(self) -> None:
        """Inject no more, and do not wait for a replica that is being started."""
        self._ending.set()
        while self.is_alive():
            for one in self._upstreams:
                one.stop()
            self.join(1.0)

    def run(self) -> None:
        kinds = list[str]()
        try:
            while not self._wait():
                # Each kind comes as often, in random order.
                kinds = kinds or self._rng.sample(KINDS, len(KINDS))
                self._inject(kinds.pop(), self._rng.choice(self._upstreams))
        except UserError as error:
            if not self._ending.is_set():
                self.failed = f"{self.now}: {error}"

    def _wait(self) -> bool:
        """Wait for a while; whether it is time to end."""
        return self._ending.wait(self._rng.uniform(0.1, 1.0) * self._longest_s)

    def _inject(self, kind: str, upstream: Upstream) -> None:
        self.now = f"{kind} {upstream.replica.name}" if kind != "garbage" else kind
        self._progress.note(f"fault: {self.now}")
        self.done[kind] += 1
        match kind:
            case "kill":
                self._signal(upstream, signal.SIGKILL)
                self._wait()
                upstream.stop()
                upstream.start()
            case "restart":
                upstream.stop()
                self._wait()
                upstream.start()
            case "hang":
                self._signal(upstream, signal.SIGSTOP)
                try:
                    self._wait()
                finally:
                    self._signal(upstream, signal.SIGCONT)
            case "slow":
                with slowed(upstream.groups(), _SLOWED_SHARE):
                    self._wait()
            case _:
                self._garbage.start()
                try:
                    self._wait()
                finally:
                    self._garbage.stop()
        self.now = ""

    def _signal(self, upstream: Upstream, number: signal.Signals) -> None:
        for group in upstream.groups():
            signal_group(group, number)
