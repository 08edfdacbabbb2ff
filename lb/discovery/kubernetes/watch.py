"""Lists and watches the EndpointSlices of a service as long as the balancer runs.

This needs two requests of the API, sent with httpx: a client for the whole API has 46 MB
(kubernetes_asyncio) or waits in threads (kubernetes).
"""

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
from lb.discovery.sources import Found
from lb.errors import UserError


@dataclass(frozen=True, slots=True)
class Pace:
    """Times, in seconds.

    The server ends a watch after `watch_s`, and the next one continues it. A watch without an
    event for `margin_s` longer than that is given up. An answer has to begin within `answer_s`.
    After an error there is a pause of `first_pause_s`, then ever longer ones up to
    `longest_pause_s`.
    """

    watch_s: float = 60.0
    margin_s: float = 10.0
    answer_s: float = 10.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0


@dataclass(frozen=True, slots=True)
class WatchedService:
    """The endpoints of a service that get traffic, as the API server lists them."""

    account: ServiceAccount
    service: Service
    pace: Pace = field(default_factory=Pace)

    async def follow(self) -> AsyncGenerator[Found]:
        slices, pauses = Slices(self.service), _Pauses(self.pace)
        while True:
            try:
                async with aclosing(self._follow_once(slices, pauses)) as results:
                    async for found in results:
                        yield found
            except ExpiredError:
                slices.version = ""
            except UnreachableError as error:
                yield error
            except UserError as error:
                slices.version = ""
                yield error
            await pauses.next()

    async def _follow_once(self, slices: Slices, pauses: _Pauses) -> AsyncGenerator[Found]:
        """Yields until the server ends the watch. Raises UserError when anything fails."""
        pace = self.pace
        async with Api(self.account, self.service, pace.answer_s) as api:
            if not slices.version:
                slices.replace(await api.listed())
                yield _found(slices)
            # Random lengths: watches that began together must not end together.
            lasts_s = pace.watch_s * random.uniform(0.8, 1.0)
            async with api.watch(slices.version, lasts_s, lasts_s + pace.margin_s) as events:
                yield _found(slices)  # if there was an error, it is over
                async for event in events:
                    pauses.reset()
                    slices.apply(event)
                    yield _found(slices)
        pauses.reset()


class _Pauses:
    """Pauses between tries, each twice as long as the one before until `reset`."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._pause_s = pace.first_pause_s

    def reset(self) -> None:
        self._pause_s = self._pace.first_pause_s

    async def next(self) -> None:
        await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))
        self._pause_s = min(2 * self._pause_s, self._pace.longest_pause_s)


def _found(slices: Slices) -> Found:
    try:
        return slices.targets()
    except UserError as error:
        return error


class ApiServerError(UserError):
    """The API server refused a request or gave no usable answer. The message is one line."""


class UnreachableError(ApiServerError):
    """The API server could not be reached, or the connection broke or timed out."""


class ExpiredError(ApiServerError):
    """The API server no longer has the events since that version."""


class Api:
    """A context with connections to the API server. Answers have to begin within `answer_s`.

    Raises UserError if files of `account` cannot be read.
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
        """All EndpointSlices of the service. Raises ApiServerError."""
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
        """A context with the events after `version`, for about `lasts_s` seconds.

        It fails if nothing is received for `silence_s`, which has to be longer. Raises
        ApiServerError, ExpiredError among them, at any time.
        """
        parameters = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(lasts_s))),
        }
        async with (
            self._get("watch", parameters, silence_s) as response,
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
        self, verb: str, parameters: dict[str, str], silence_s: float
    ) -> AsyncIterator[httpx.Response]:
        """A context with an answer of status 200, with its body not yet read."""
        request = self._client.build_request(
            "GET",
            f"/apis/discovery.k8s.io/v1/namespaces/{self._service.namespace}/endpointslices",
            params={
                "labelSelector": f"kubernetes.io/service-name={self._service.name}",
                **parameters,
            },
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

    def _failure(self, verb: str, status: int) -> ApiServerError:
        match status:
            case 401:
                folder = self._account.folder
                return ApiServerError(f"{self._account.url} does not accept the token in {folder}")
            case 403:
                return ApiServerError(
                    f"the ServiceAccount may not {verb} endpointslices in namespace "
                    f"{self._service.namespace}: its Role needs apiGroups [discovery.k8s.io], "
                    "resources [endpointslices], verbs [list, watch]"
                )
            case 410:
                return ExpiredError(f"{self._account.url} has forgotten that version")
            case _:
                return ApiServerError(
                    f"{self._account.url} answers with status {status} when asked to {verb} "
                    "endpointslices"
                )

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"{self._account.url} cannot be reached: {reason}")

    def _unreadable(self, wanted: str) -> ApiServerError:
        return ApiServerError(f"{self._account.url} does not send {wanted} of EndpointSlices")


async def lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Yields lines without their line feeds; an unfinished last line is dropped.

    httpx's own `aiter_lines` also splits at other line ends of Unicode, which JSON may contain.
    """
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
