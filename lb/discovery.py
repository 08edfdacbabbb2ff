"""Which replicas there are: a list, a file that is watched, or a name in DNS."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from lb.endpoint import Endpoint, Target, authority, parse_targets
from lb.errors import UserError

logger = logging.getLogger("lb")

_FILE_INTERVAL_S = 1.0
# getaddrinfo does not tell how long an answer holds; this is what CoreDNS gives services.
_DNS_INTERVAL_S = 5.0


class Source(Protocol):
    """Where targets are read from, time and again while `interval_s` is not None."""

    @property
    def interval_s(self) -> float | None: ...

    async def targets(self) -> tuple[Target, ...]:
        """What is there now. Raises UserError when it cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """The same ones for ever."""

    listed: tuple[Target, ...]
    interval_s: float | None = None

    async def targets(self) -> tuple[Target, ...]:
        return self.listed


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """The lines of a file, as `parse_targets` takes them.

    An empty file is an error like any other: more often than not it is being written.
    """

    path: Path
    interval_s: float | None = _FILE_INTERVAL_S

    def read(self) -> tuple[Target, ...]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UserError(f"{self.path} cannot be read: {reason}") from None
        return parse_targets(text, str(self.path))

    async def targets(self) -> tuple[Target, ...]:
        return self.read()


@dataclass(frozen=True, slots=True)
class Resolved:
    """Every address that the endpoint's host resolves to, as a headless service has them."""

    endpoint: Endpoint
    interval_s: float | None = _DNS_INTERVAL_S

    async def targets(self) -> tuple[Target, ...]:
        host, port = self.endpoint.host, self.endpoint.port
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UserError(f"{host} cannot be resolved: {error.strerror}") from None
        # Sorted, since DNS servers rotate their answers.
        addresses = sorted({str(address[0]) for *_, address in found})
        return tuple(
            Target(Endpoint(address, port, authority(address, port))) for address in addresses
        )


class Discovery:
    """A context in which `found` is called with the targets, at first and when they change.

    What cannot be read leaves everything as it was: a broken file or a name server that
    is away must not take replicas that work out of service.
    """

    def __init__(self, source: Source, found: Callable[[tuple[Target, ...]], None]) -> None:
        self._source = source
        self._found = found
        self._known: tuple[Target, ...] | None = None
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Discovery:
        await self._look()
        if self._source.interval_s is not None:
            self._task = asyncio.create_task(self._look_forever(self._source.interval_s))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _look_forever(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self._look()

    async def _look(self) -> None:
        try:
            targets = await self._source.targets()
        except UserError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.warning("replicas stay as they are: %s", error)
            return
        self._trouble = ""
        if targets != self._known:
            self._known = targets
            logger.info("replicas: %s", ", ".join(t.endpoint.authority for t in targets))
            self._found(targets)
