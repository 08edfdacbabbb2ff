"""Lines of several logs: one log after the other, or all together as they are written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

from bench.environments.operations import Operations, Service
from bench.errors import UserError


def log_lines(
    operations: Operations, services: Sequence[Service], tail: int, *, follow: bool
) -> Iterator[str]:
    """The last `tail` lines of each log, and with `follow` all new ones.

    With several logs each line begins with the name of its service. A log that cannot be read has
    a line that says why.
    """
    if follow:
        return _followed(operations, services, tail)
    return (line for one in services for line in _lines(operations, services, one, tail, False))


def _followed(operations: Operations, services: Sequence[Service], tail: int) -> Iterator[str]:
    """Ends when all logs have ended."""
    lines: queue.Queue[str | None] = queue.Queue()

    def copy(one: Service) -> None:
        for line in _lines(operations, services, one, tail, True):
            lines.put(line)
        lines.put(None)

    for one in services:
        threading.Thread(target=copy, args=(one,), daemon=True).start()
    left = len(services)
    while left:
        line = lines.get()
        if line is None:
            left -= 1
        else:
            yield line


def _lines(
    operations: Operations, services: Sequence[Service], one: Service, tail: int, follow: bool
) -> Iterator[str]:
    width = max(len(each.name) for each in services)
    prefix = f"{one.name:<{width}} | " if len(services) > 1 else ""
    try:
        for line in operations.logs(one, tail, follow=follow):
            yield prefix + line
    except UserError as error:
        yield f"{prefix}{error}"
