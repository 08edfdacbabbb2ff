"""Where the list of replicas comes from: the command line, a watched file, or DNS."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lb.errors import UserError
from lb.http.endpoint import Endpoint, Target, authority, parse_targets

logger = logging.getLogger("lb")

_FILE_INTERVAL_S = 1.0
# getaddrinfo does not return an answer's TTL; for services, CoreDNS sets this one.
_DNS_INTERVAL_S = 5.0

# All targets that there are now, or why they cannot be read.
Found = tuple[Target, ...] | UserError


class Source(Protocol):
    """Where targets are read from."""

    def follow(self) -> AsyncGenerator[Found]:
        """Yields the targets as soon as possible, and whenever they may have changed."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """Targets that never change."""

    listed: tuple[Target, ...]

    async def follow(self) -> AsyncGenerator[Found]:
        yield self.listed


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """Targets in a file, as `parse_targets` reads them; an empty file is an error."""

    path: Path
    interval_s: float = _FILE_INTERVAL_S

    async def follow(self) -> AsyncGenerator[Found]:
        while True:
            try:
                yield self.read()
            except UserError as error:
                yield error
            await asyncio.sleep(self.interval_s)

    def read(self) -> tuple[Target, ...]:
        """The targets that the file has now. Raises UserError."""
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UserError(f"{self.path} cannot be read: {reason}") from None
        return parse_targets(text, str(self.path))


@dataclass(frozen=True, slots=True)
class Resolved:
    """A target for every address that the host of `endpoint` resolves to.

    A headless service of Kubernetes has one address for each pod.
    """

    endpoint: Endpoint
    interval_s: float = _DNS_INTERVAL_S

    async def follow(self) -> AsyncGenerator[Found]:
        while True:
            try:
                yield await self.look_up()
            except UserError as error:
                yield error
            await asyncio.sleep(self.interval_s)

    async def look_up(self) -> tuple[Target, ...]:
        """The targets that the name resolves to now, sorted. Raises UserError."""
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


@asynccontextmanager
async def discovering(
    source: Source, on_change: Callable[[tuple[Target, ...]], None]
) -> AsyncIterator[None]:
    """A context in which `on_change` is called with the targets, at first and when they change.

    It is entered when the source has been read once, or could not be. While targets cannot be
    read the last ones stay: a broken file or a name server that is down must not remove replicas
    that work.
    """
    first_result = asyncio.Event()

    async def follow() -> None:
        known: tuple[Target, ...] | None = None
        error = ""
        async with aclosing(source.follow()) as results:
            async for found in results:
                last_error, error = error, ""
                if isinstance(found, UserError):
                    error = str(found)
                    if error != last_error:
                        logger.warning("replicas stay as they are: %s", error)
                elif found != known:
                    known = found
                    names = ", ".join(target.endpoint.name for target in found)
                    logger.info("replicas: %s", names or "none")
                    on_change(found)
                first_result.set()

    def ended(task: asyncio.Task[None]) -> None:
        first_result.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("replicas are no longer discovered", exc_info=error)

    task = asyncio.create_task(follow())
    task.add_done_callback(ended)
    try:
        await first_result.wait()
        if task.done():
            await task
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
