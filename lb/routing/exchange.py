"""Requests for replicas: admitted, given a replica, relayed, retried and recorded."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

from lb.http.api_errors import (
    ApiError,
    method_not_allowed,
    no_healthy_replica,
    out_of_descriptors,
    replica_failed,
    too_many_requests,
)
from lb.http.downstream import CLIENT_LEFT, ClientConnection, Incoming
from lb.http.http1 import REQUEST_ID_HEADER
from lb.http.keys import Authenticator, tenant_of
from lb.http.relay import REPLICA_HEADER, Relay
from lb.http.upstream.client import Upstream
from lb.http.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    IdleClosedError,
    OutOfDescriptorsError,
    UpstreamError,
)
from lb.observability.journal import Journal
from lb.policies.choice import Choice
from lb.replicas.fleet import Fleet, Flight
from lb.replicas.outliers import Advice, is_refusal
from lb.replicas.replica import Replica, Request
from lb.routing.queues import RequestQueues
from lb.routing.request_parser import KeyOf, is_preflight, request_of
from lb.routing.router import RetryBudget, Router
from lb.routing.routes import Route

logger = logging.getLogger("lb")

# From this status on an answer is a failure of the replica.
_FAILURE = 500
# With these statuses it has not begun: another replica may answer.
_UNAVAILABLE = frozenset({502, 503, 504})
# How often a request is sent at most, without connections that fail.
_MOST_SENDS = 2
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a replica may take to the first byte of an answer, and between two parts."""

    first_byte_s: float = 600.0
    stall_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Components:
    """What all exchanges share; `key_of` makes the key by which the policy chooses.

    Requests are cut `in_blocks` where the policy counts what replicas have cached.
    """

    fleet: Fleet
    router: Router
    queues: RequestQueues
    upstream: Upstream
    authenticator: Authenticator
    journal: Journal
    retries: RetryBudget
    timeouts: Timeouts
    queue_s: float
    key_of: KeyOf | None = None
    in_blocks: bool = False


class Exchange(Relay):
    """One request for a replica.

    It is queued if all replicas are full, sent to one, and once more if that fails before the
    first byte of the body. Every attempt is counted. A request for a stored response is sent to
    one replica after another until one knows it.
    """

    __slots__ = (
        "_breaker_number",
        "_components",
        "_flight",
        "_queued",
        "_record",
        "_replica",
        "_request",
        "_retried",
        "_route",
        "_suspect",
        "_tenant",
        "_tried",
        "_without_response",
    )

    def __init__(
        self, components: Components, client: ClientConnection, incoming: Incoming, route: Route
    ) -> None:
        super().__init__(components.upstream, client, incoming, components.timeouts.stall_s)
        self._components = components
        self._route = route
        self._record = record = components.journal.begun(client, incoming)
        self._more = ((REQUEST_ID_HEADER, record.request_id),)
        self._request: Request
        self._tenant = b""
        self._replica: Replica | None = None
        self._breaker_number = 0
        self._flight: Flight | None = None
        self._queued = False
        self._retried = False
        # The replica whose trial this is or, after a retry, with which the answer is compared.
        self._suspect: Replica | None = None
        self._tried: tuple[Replica, ...] = ()
        self._without_response: tuple[Replica, ...] = ()

    # Received and admitted.

    def start(self) -> None:
        incoming, components = self._incoming, self._components
        try:
            if not is_preflight(self._route, incoming):
                self._record.tenant = components.authenticator.authenticate(incoming.headers)
            if self._client.over_descriptor_limit:
                raise out_of_descriptors("as many clients as there can be are served")
            self._headers = components.authenticator.passed_on(self._record.headers)
            self._key_headers = components.authenticator.replica_headers
            method = b"GET" if self._bodiless else incoming.method
            if method not in self._route.methods:
                raise method_not_allowed(incoming.method, incoming.target, self._route.methods)
            self._request = request = request_of(
                self._route,
                incoming,
                components.router.default_model,
                components.key_of,
                in_blocks=components.in_blocks,
            )
            components.retries.earn()
            if self._route.kind == "stored":
                self._identify(request)
                if not self._send_to_next_owner():
                    raise no_healthy_replica("There are no replicas")
                return
            choice = components.router.choose(request, incoming.complete_s)
            self._identify(request)
            if choice is None or components.queues.waiting(request.model):
                self._enqueue()
            else:
                self._send_to(choice)
        except ApiError as error:
            self.refuse(error)

    def _identify(self, request: Request) -> None:
        record = self._record
        record.model, record.prompt_tokens = request.model, request.prompt_tokens

    # Queued, if all replicas are full.

    def _enqueue(self) -> None:
        self._tenant = self._find_tenant()
        if not self._components.queues.put(self._request.model, self._tenant, self):
            raise too_many_requests("Every replica is full, and so is the queue")
        self._queued = True
        self._record.wait_begins(self._request.model)
        self.deadline_s = self._incoming.complete_s + self._components.queue_s

    def _find_tenant(self) -> bytes:
        tenant = self._record.tenant
        return tenant_of(self._incoming.headers) if tenant is None else tenant

    @property
    def request(self) -> Request:
        return self._request

    def on_replica_free(self, choice: Choice) -> None:
        self._dequeued()
        self._send_to(choice)

    def on_unroutable(self, error: ApiError) -> None:
        self._dequeued()
        self.refuse(error)

    def _dequeued(self) -> None:
        self._queued = False
        self._record.wait_ends(self._request.model)
        self.deadline_s = math.inf

    def _leave_queue(self) -> None:
        self._dequeued()
        self._components.queues.remove(self._request.model, self._tenant, self)

    def expire(self, now_s: float) -> None:
        if not self._queued:
            super().expire(now_s)
        elif now_s >= self.deadline_s:
            self._leave_queue()
            self.refuse(too_many_requests("No replica was free in time"))

    # Sent.

    def _send_to(self, choice: Choice) -> None:
        self._replica = replica = choice.replica
        now_s = time.monotonic()
        self._breaker_number = replica.breaker.sent(now_s)
        if replica.acceptance.services and not self._retried:
            trial = replica.acceptance.sent(self._request.service, now_s)
            self._suspect = replica if trial else None
        self._flight = self._components.fleet.begin(replica, self._request)
        self._record.attempt_begins(replica.name, self._request.model, choice.reason)
        request_id = self._record.request_id
        self._more = ((REQUEST_ID_HEADER, request_id), (REPLICA_HEADER, replica.name_bytes))
        self.deadline_s = now_s + self._components.timeouts.first_byte_s
        self.send(replica.endpoint)

    # Answered.

    def on_answer(self, status: int, beginning: bytes) -> bool:
        replica, now_s = self._replica, time.monotonic()
        assert self._flight is not None
        assert replica is not None
        self._flight.answered()
        if status >= _FAILURE:
            replica.breaker.failed(self._breaker_number, now_s)
            self._end_trial()
            return not (status in _UNAVAILABLE and self._retry())
        replica.breaker.succeeded(self._breaker_number, now_s)
        if self._request.stored_response:
            # Only one replica knows a stored response: a 404 is no refusal.
            self._end_trial()
            if status != _NOT_FOUND:
                return True
            self._without_response += (replica,)
            return not self._send_to_next_owner()
        refused = is_refusal(status, beginning)
        if refused or replica.acceptance.services or self._suspect is not None:
            return not self._compare(replica, refused, now_s)
        return True

    def _compare(self, replica: Replica, refused: bool, now_s: float) -> bool:
        """Find replicas that refuse what others accept. Returns whether it was sent elsewhere."""
        service, suspect = self._request.service, self._suspect
        self._suspect = None
        if suspect is not None and self._retried:
            if suspect.acceptance.compared(service, refused, now_s):
                self._record.ejected(suspect.name, self._request.model)
                logger.warning(
                    "replica %s refuses requests for %s at %s that others accept: it gets none of "
                    "these for now",
                    suspect.name,
                    self._request.model or "any model",
                    self._request.path.decode("ascii") or "other paths",
                )
            return False
        advice = replica.acceptance.answered(service, refused, now_s, trial=suspect is replica)
        if advice is Advice.PASS or self._retried:
            return False
        if advice is Advice.RETRY:
            return self._retry()
        replica.acceptance.suspend(service, now_s)
        if self._retry(suspect=replica):
            return True
        if self._components.router.others_working(self._request, replica, now_s):
            replica.acceptance.postponed(service, now_s)
        else:
            replica.acceptance.undecided(service, now_s)
        return False

    def _end_trial(self) -> None:
        suspect, self._suspect = self._suspect, None
        if suspect is not None:
            suspect.acceptance.undecided(self._request.service, time.monotonic())

    # Failed or refused: sent to another replica.

    def on_upstream_error(self, error: UpstreamError) -> None:
        replica = self._replica
        assert replica is not None
        self._end_trial()
        if isinstance(error, OutOfDescriptorsError):
            logger.error("no connection to a replica can be opened: %s", error)
            replica.breaker.abandoned(self._breaker_number)
            self._record.uncount_attempt()
            self._keep_alive = False  # the client has a descriptor, too
            self.cut(out_of_descriptors(str(error)))
            return
        self._record.failed(error.kind)
        logger.warning("replica %s %s", replica.name, error)
        replica.breaker.failed(self._breaker_number, time.monotonic())
        if isinstance(error, ConnectFailedError):
            self._components.fleet.lost(replica, str(error))
        if self.status or isinstance(error, BadAnswerError) or not self._retry(error):
            self.cut(_as_api_error(replica.name, error))

    def _retry(self, error: UpstreamError | None = None, *, suspect: Replica | None = None) -> bool:
        """Send the request to another replica, or again to the only one. Returns whether it was.

        This uses up one of the retries that are left, since the replica may have begun. It does
        not if there was no connection, nor to compare with a `suspect`, which has refused.
        """
        replica, components = self._replica, self._components
        assert replica is not None
        if self.sends >= _MOST_SENDS:
            return False
        self._tried += (replica,)
        router, request, now_s = components.router, self._request, time.monotonic()
        if suspect is not None:
            choice = router.choose_to_compare(request, replica, now_s)
        else:
            choice = router.choose_other(request, self._tried, now_s)
        if choice is None and isinstance(error, IdleClosedError):
            choice = Choice(replica, "retry")
        if choice is None:
            return False
        free = suspect is not None or isinstance(error, ConnectFailedError)
        if not (free or components.retries.spend()):
            return False
        self._retried = True
        self._suspect = suspect
        self._record.retried()
        self.drop_upstream()
        self._end_attempt()
        self._send_to(choice)
        components.queues.dispatch()
        return True

    def _send_to_next_owner(self) -> bool:
        """Send the request to the next replica that may have the response.

        Answers 503 if none of these is healthy. Returns False if there are none.
        """
        left = [
            replica
            for replica in self._components.fleet.may_have_stored(self._request.model)
            if replica not in self._without_response
        ]
        if not left:
            return False
        self.drop_upstream()
        self._end_attempt()
        able = next((replica for replica in left if replica.healthy), None)
        if able is not None:
            self._send_to(Choice(able, "stored-response"))
        else:
            names = ", ".join(replica.name for replica in left)
            self.cut(no_healthy_replica(f"Replicas that may have it are not healthy: {names}"))
        return True

    # Ended and recorded.

    def refuse(self, error: ApiError) -> None:
        self._record.refused(error)
        super().refuse(error.at(self._incoming.target))

    def cut(self, error: ApiError) -> None:
        self._record.error = error
        super().cut(error.at(self._incoming.target))

    def on_end(self, status: int) -> None:
        if self._queued:
            self._leave_queue()
        if self._suspect is not None:
            self._end_trial()
        if self._replica is not None and status == CLIENT_LEFT and not self.status:
            self._replica.breaker.abandoned(self._breaker_number)
        self._components.journal.ended(self._record, self, status)
        self._end_attempt()
        self._components.queues.dispatch()

    def _end_attempt(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None and self._replica is not None:
            flight.end()
            self._record.attempt_ends()


def _as_api_error(replica: str, error: UpstreamError) -> ApiError:
    if isinstance(error, ConnectFailedError):
        return no_healthy_replica(f"Replica {replica} {error}")
    return replica_failed(replica, str(error))
