"""Which replicas there are: a list, a file that is watched, or a name in DNS."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from lb.endpoint import Endpoint, Target, authority, parse_targets
from lb.errors import UserError

logger = logging.getLogger("lb")

_FILE_INTERVAL_S = 1.0
# getaddrinfo does not tell how long an answer holds; this is what CoreDNS gives services.
_DNS_INTERVAL_S = 5.0


class Reader(Protocol):
    """Who is told what a source knows."""

    def found(self, targets: tuple[Target, ...]) -> None:
        """These are there now, and no others."""
        ...

    def failed(self, error: UserError) -> None:
        """What is there cannot be read."""
        ...


class Source(Protocol):
    """Where targets are read from."""

    async def follow(self, reader: Reader) -> None:
        """Tell what is there as soon as that can be, and what becomes of it from then on."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """The same ones for ever."""

    listed: tuple[Target, ...]

    async def follow(self, reader: Reader) -> None:
        reader.found(self.listed)


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """The lines of a file, as `parse_targets` takes them.

    An empty file is an error like any other: more often than not it is being written.
    """

    path: Path
    interval_s: float = _FILE_INTERVAL_S

    async def follow(self, reader: Reader) -> None:
        while True:
            try:
                reader.found(self.read())
            except UserError as error:
                reader.failed(error)
            await asyncio.sleep(self.interval_s)

    def read(self) -> tuple[Target, ...]:
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UserError(f"{self.path} cannot be read: {reason}") from None
        return parse_targets(text, str(self.path))


@dataclass(frozen=True, slots=True)
class Resolved:
    """Every address that the endpoint's host resolves to, as a headless service has them."""

    endpoint: Endpoint
    interval_s: float = _DNS_INTERVAL_S

    async def follow(self, reader: Reader) -> None:
        while True:
            try:
                reader.found(await self.look_up())
            except UserError as error:
                reader.failed(error)
            await asyncio.sleep(self.interval_s)

    async def look_up(self) -> tuple[Target, ...]:
        host, port = self.endpoint.host, self.endpoint.port
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UserError(f"{host} cannot be resolved: {error.strerror}") from None
        # Sorted, since DNS servers rotate their answers.
        addresses = sorted({str(address[0]) for *_, address in found})
        return tuple(
            Target(replace(self.endpoint, host=address, authority=authority(address, port)))
            for address in addresses
        )


class Discovery:
    """A context in which `on_change` is called with the targets, at first and when they change.

    What cannot be read leaves everything as it was: a broken file or a name server that
    is away must not take replicas that work out of service.
    """

    def __init__(self, source: Source, on_change: Callable[[tuple[Target, ...]], None]) -> None:
        self._source = source
        self._on_change = on_change
        self._known: tuple[Target, ...] | None = None
        self._trouble = ""
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Discovery:
        """Returns when the source has told something, be it that it cannot be read."""
        self._task = asyncio.create_task(self._source.follow(self))
        self._task.add_done_callback(self._ended)
        await self._looked.wait()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._looked.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("replicas are no longer looked for", exc_info=error)

    def found(self, targets: tuple[Target, ...]) -> None:
        self._looked.set()
        self._trouble = ""
        if targets != self._known:
            self._known = targets
            names = ", ".join(target.endpoint.name for target in targets)
            logger.info("replicas: %s", names or "none")
            self._on_change(targets)

    def failed(self, error: UserError) -> None:
        self._looked.set()
        if str(error) != self._trouble:
            self._trouble = str(error)
            logger.warning("replicas stay as they are: %s", error)
