"""A program in a pod, through the API server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from bench.environments.kubernetes.cluster import Streams
from bench.environments.kubernetes.cluster.streams import STATUS, STDERR, STDOUT, exit_code
from bench.errors import UserError
from bench.sites.attended import GRACE_S
from bench.sites.heard import Hear, Heard

_LAST_WORDS = 4096
# Beyond the time in which a program ends, or is killed: for its end to be told here.
_PATIENCE_S = 10.0


class PodProgram:
    """A program behind `streams`. A thread listens to it, so that its end is known at once.

    `fate` is asked when it has not ended by itself: what has become of its pod, None if
    nothing.
    """

    def __init__(self, streams: Streams, fate: Callable[[], str | None]) -> None:
        self._streams = streams
        self._fate = fate
        self._heard = Heard()
        self._arrived = bytearray()
        self._over: str | None = None
        self._news = threading.Condition()
        self._reading = threading.Lock()
        self._sending = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def send(self, data: bytes) -> None:
        """Write to its standard input; nothing happens if it has ended."""
        with self._sending:
            self._streams.send(data)

    def line(self, timeout_s: float) -> bytes:
        """The next line of its standard output; see `Program`."""
        with self._reading:
            return self._heard.line(self._hearing(timeout_s))

    def read(self, size: int, timeout_s: float) -> bytes:
        """The next `size` bytes of its standard output; see `Program`."""
        with self._reading:
            return self._heard.read(size, self._hearing(timeout_s))

    def ended(self) -> str | None:
        """Its exit code, 128 + n after signal n, and its last words; None while it runs."""
        return self._over

    def close(self) -> None:
        """End it: what attends to it in the pod kills it if need be. Safe to repeat."""
        self._streams.end_input()
        self._listener.join(GRACE_S + _PATIENCE_S)
        self._streams.drop()  # without a connection it is ended as well
        self._listener.join()

    def _hearing(self, timeout_s: float) -> Hear:
        deadline_s = monotonic() + timeout_s
        return lambda: self._hear(deadline_s, timeout_s)

    def _hear(self, deadline_s: float, timeout_s: float) -> None:
        """Take in what has arrived. Raises UserError when nothing will, or not in time."""
        with self._news:
            if not self._news.wait_for(self._has_news, max(0.0, deadline_s - monotonic())):
                raise UserError(f"it said nothing for {timeout_s:g} s")
            if not self._arrived:
                raise UserError(self._over or "it was ended")
            self._heard.add(bytes(self._arrived))
            self._arrived.clear()

    def _has_news(self) -> bool:
        return bool(self._arrived) or self._over is not None

    def _listen(self) -> None:
        """Take in all that comes, until there is no more."""
        words, status = bytearray(), bytearray()
        while received := self._streams.receive():
            stream, data = received
            if stream == STDOUT:
                with self._news:
                    self._arrived += data
                    self._news.notify_all()
            elif stream == STDERR:
                words += data
                del words[:-_LAST_WORDS]
            elif stream == STATUS:
                status += data
        self._streams.close()
        over = self._told(bytes(words), bytes(status))
        with self._news:
            self._over = over
            self._news.notify_all()

    def _told(self, words: bytes, status: bytes) -> str:
        lines = [line for line in words.decode(errors="replace").splitlines() if line.strip()]
        said = f": {lines[-1]}" if lines else " and said nothing"
        code = exit_code(status)
        if code is None:
            ended = f"the connection to it was lost{': ' + lines[-1] if lines else ''}"
        else:
            ended = f"it ended with {code}{said}"
        fate = self._fate() if code is None or code > 128 else None
        return f"{ended}; {fate}" if fate else ended
