"""Follows the endpoints of a service for as long as the balancer runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import httpx
from pydantic import ValidationError

from lb.discovery.kubernetes.service import Service, ServiceAccount
from lb.discovery.kubernetes.slices import EVENTS, EndpointSliceList, Event, Failure, Slices
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


class ApiError(UserError):
    """The API server did not do what it was asked for. The message is one line."""


class UnreachableError(ApiError):
    """No connection, or one that broke or fell silent: nothing is known to have changed."""


class ExpiredError(ApiError):
    """It remembers no longer what has happened since that version."""


class Api:
    """The EndpointSlices of `service`, over connections that end with the context.

    An answer has to begin within `answer_s`. Raises UserError when files of `account`
    cannot be read.
    """

    def __init__(self, account: ServiceAccount, service: Service, answer_s: float) -> None:
        self._account = account
        self._service = service
        self._answer_s = answer_s
        self._client = httpx.AsyncClient(
            base_url=account.url, verify=account.tls(), timeout=answer_s, trust_env=False
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def listed(self) -> EndpointSliceList:
        """All that there are. Raises ApiError."""
        async with self._get("list", {}, self._answer_s) as response:
            body = await response.aread()
        try:
            return EndpointSliceList.model_validate_json(body)
        except ValidationError:
            raise self._unreadable("a list") from None

    @asynccontextmanager
    async def watch(
        self, version: str, lasts_s: float, silence_s: float
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """A context with what happens after `version`, for about `lasts_s` seconds.

        It fails when nothing comes for `silence_s`, which has to be longer. Raises
        ApiError, ExpiredError among them, at any time.
        """
        wanted = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(lasts_s))),
        }
        async with (
            self._get("watch", wanted, silence_s) as response,
            aclosing(self._events(response.aiter_bytes())) as events,
        ):
            yield events

    async def _events(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[Event]:
        async with aclosing(lines(chunks)) as whole:
            async for line in whole:
                try:
                    event = EVENTS.validate_json(line)
                except ValidationError:
                    raise self._unreadable("an event") from None
                if isinstance(event, Failure):
                    raise self._failure("watch", event.object.code)
                yield event

    @asynccontextmanager
    async def _get(
        self, verb: str, wanted: dict[str, str], silence_s: float
    ) -> AsyncIterator[httpx.Response]:
        """A context with an answer that has begun, with status 200."""
        request = self._client.build_request(
            "GET",
            f"/apis/discovery.k8s.io/v1/namespaces/{self._service.namespace}/endpointslices",
            params={"labelSelector": f"kubernetes.io/service-name={self._service.name}", **wanted},
            headers={"authorization": f"Bearer {self._account.token()}"},
            timeout=httpx.Timeout(self._answer_s, read=silence_s),
        )
        try:
            async with asyncio.timeout(self._answer_s):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise UnreachableError(f"{self._account.url} does not answer") from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        try:
            if response.status_code != httpx.codes.OK:
                raise self._failure(verb, response.status_code)
            yield response
        except httpx.RequestError as error:
            raise self._unreachable(error) from None
        finally:
            await response.aclose()

    def _failure(self, verb: str, status: int) -> ApiError:
        match status:
            case 401:
                folder = self._account.folder
                return ApiError(f"{self._account.url} does not accept the token in {folder}")
            case 403:
                return ApiError(
                    f"the ServiceAccount may not {verb} endpointslices in namespace "
                    f"{self._service.namespace}: its Role needs apiGroups [discovery.k8s.io], "
                    "resources [endpointslices], verbs [list, watch]"
                )
            case 410:
                return ExpiredError(f"{self._account.url} has forgotten that version")
            case _:
                return ApiError(
                    f"{self._account.url} answers with status {status} when asked to {verb} "
                    "endpointslices"
                )

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"{self._account.url} cannot be reached: {reason}")

    def _unreadable(self, wanted: str) -> ApiError:
        return ApiError(f"{self._account.url} does not send {wanted} of EndpointSlices")


async def lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Whole lines, without their ends. What has none was cut off, and is dropped.

    httpx's own lines end at any of Unicode's ends of line, which JSON may contain.
    """
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
