"""A program that runs in a pod, reached through the API server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from bench.environments.kubernetes.cluster import Streams
from bench.environments.kubernetes.cluster.streams import STATUS, STDERR, STDOUT, exit_code
from bench.errors import UserError
from bench.sites.attended import GRACE_S
from bench.sites.heard import Heard

_STDERR_BYTES = 4096
# Beyond the time that a program has to end before it is killed: for the API server to report it.
_REPORT_S = 10.0


class PodProgram:
    """A `Program` behind `streams`. A thread receives from it, so that its end is known at once.

    `pod_failure` gives what is wrong with the pod, None if nothing; it is called when the program
    was killed or its connection was lost.
    """

    def __init__(self, streams: Streams, pod_failure: Callable[[], str | None]) -> None:
        self._streams = streams
        self._pod_failure = pod_failure
        self._output = Heard()
        self._arrived = bytearray()
        self._end: str | None = None
        self._changed = threading.Condition()
        self._reading = threading.Lock()
        self._sending = threading.Lock()
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._receiver.start()

    def send(self, data: bytes) -> None:
        """Write to its standard input; nothing happens if it has ended."""
        with self._sending:
            self._streams.send(data)

    def line(self, timeout_s: float) -> bytes:
        """The next line of its standard output; see `Program`."""
        with self._reading:
            return self._output.line(self._more(timeout_s))

    def read(self, size: int, timeout_s: float) -> bytes:
        """The next `size` bytes of its standard output; see `Program`."""
        with self._reading:
            return self._output.read(size, self._more(timeout_s))

    def ended(self) -> str | None:
        """Its exit code (128 + n after signal n) and last line of errors; None while it runs."""
        return self._end

    def close(self) -> None:
        """Close its input; what started it in the pod kills it if it does not end by itself."""
        self._streams.end_input()
        self._receiver.join(GRACE_S + _REPORT_S)
        self._streams.abort()  # without a connection it is ended as well
        self._receiver.join()

    def _more(self, timeout_s: float) -> Callable[[], None]:
        """Waits for more output, `timeout_s` seconds in all."""
        deadline_s = monotonic() + timeout_s
        return lambda: self._take_arrived(deadline_s, timeout_s)

    def _take_arrived(self, deadline_s: float, timeout_s: float) -> None:
        """Wait for output and hand it over. Raises UserError if none comes, or not in time."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._arrived or self._end is not None, max(0.0, deadline_s - monotonic())
            ):
                raise UserError(f"it said nothing for {timeout_s:g} s")
            if not self._arrived:
                raise UserError(self._end or "it was ended")
            self._output.add(bytes(self._arrived))
            self._arrived.clear()

    def _receive(self) -> None:
        """Take in all output until the streams end, and then how the program has ended."""
        errors, status = bytearray(), bytearray()
        while received := self._streams.receive():
            stream, data = received
            if stream == STDOUT:
                with self._changed:
                    self._arrived += data
                    self._changed.notify_all()
            elif stream == STDERR:
                errors += data
                del errors[:-_STDERR_BYTES]
            elif stream == STATUS:
                status += data
        self._streams.close()
        end = self._how_it_ended(bytes(errors), exit_code(bytes(status)))
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def _how_it_ended(self, errors: bytes, code: int | None) -> str:
        lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
        if code is None:
            end = f"the connection to it was lost{': ' + lines[-1] if lines else ''}"
        else:
            end = f"it ended with {code}{': ' + lines[-1] if lines else ' and said nothing'}"
        failure = self._pod_failure() if code is None or code > 128 else None
        return f"{end}; {failure}" if failure else end
