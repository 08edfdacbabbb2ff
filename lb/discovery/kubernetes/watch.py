"""Follows the endpoints of a service for as long as the balancer runs."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from lb.discovery.kubernetes.account import ServiceAccount
from lb.discovery.kubernetes.api import Api, ExpiredError, UnreachableError
from lb.discovery.kubernetes.service import Service
from lb.discovery.kubernetes.slices import Slices
from lb.discovery.sources import Reader
from lb.errors import UserError


@dataclass(frozen=True, slots=True)
class Pace:
    """Times, in seconds.

    A watch is ended by the server after `watch_s` and goes on where it was: one that is
    not, within `margin_s` more of silence, hangs or has lost its server. An answer has to
    begin within `answer_s`. After trouble there is a pause of `first_pause_s`, then ever
    longer ones up to `longest_pause_s`.
    """

    watch_s: float = 60.0
    margin_s: float = 10.0
    answer_s: float = 10.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0


@dataclass(frozen=True, slots=True)
class WatchedService:
    """The endpoints of a service that get traffic, as the API server tells them."""

    account: ServiceAccount
    service: Service
    pace: Pace = field(default_factory=Pace)

    async def follow(self, reader: Reader) -> None:
        slices = Slices(self.service)
        pauses = _Pauses(self.pace)
        while True:
            try:
                await self._follow_once(slices, reader, pauses)
            except ExpiredError:
                slices.version = ""
            except UnreachableError as error:
                reader.failed(error)
            except UserError as error:
                slices.version = ""
                reader.failed(error)
            await pauses.next()

    async def _follow_once(self, slices: Slices, reader: Reader, pauses: _Pauses) -> None:
        """Until the server ends the watch. Raises UserError when there is trouble."""
        pace = self.pace
        async with Api(self.account, self.service, pace.answer_s) as api:
            if not slices.version:
                slices.replace(await api.listed())
                _tell(slices, reader)
            # Many watches may have begun together, and are not to go on together.
            lasts_s = pace.watch_s * random.uniform(0.8, 1.0)
            async with api.watch(slices.version, lasts_s, lasts_s + pace.margin_s) as events:
                _tell(slices, reader)  # also that the trouble, if there was any, is over
                async for event in events:
                    pauses.reset()
                    slices.apply(event)
                    _tell(slices, reader)
        pauses.reset()


class _Pauses:
    """Between one try and the next, ever longer until there is a reason to `reset` them."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._pause_s = pace.first_pause_s

    def reset(self) -> None:
        self._pause_s = self._pace.first_pause_s

    async def next(self) -> None:
        await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))
        self._pause_s = min(2 * self._pause_s, self._pace.longest_pause_s)


def _tell(slices: Slices, reader: Reader) -> None:
    try:
        targets = slices.targets()
    except UserError as error:
        reader.failed(error)
    else:
        reader.found(targets)
