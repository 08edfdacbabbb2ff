"""Requests for replicas, from a client to one and back: the one path of all policies."""

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
from lb.http.relay import REPLICA_HEADER, Passage
from lb.http.upstream import (
    BadAnswerError,
    ConnectFailedError,
    IdleClosedError,
    OutOfDescriptorsError,
    Upstream,
    UpstreamError,
)
from lb.observability.journal import Journal
from lb.policies.choice import Choice
from lb.replicas.fleet import Fleet, Flight
from lb.replicas.outliers import Advice, is_refusal
from lb.replicas.replica import Replica, Request
from lb.routing.queues import WaitingRoom
from lb.routing.request_parser import KeyOf, is_preflight, request_of
from lb.routing.router import RetryBudget, Router
from lb.routing.routes import Route

logger = logging.getLogger("lb")

# From this status on a replica says that it cannot, as opposed to that it will not.
_FAILURE = 500
# Of these, the ones by which it says that it has not begun: another may.
_UNAVAILABLE = frozenset({502, 503, 504})
# So often a request is sent at most. Connecting may fail before it is, once to each replica.
_MOST_SENDS = 2
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a replica may take: to the first byte of an answer, and between two bytes."""

    first_byte_s: float = 600.0
    stall_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What every exchange works with; `key_of` is what the policy keeps together."""

    fleet: Fleet
    router: Router
    waiting: WaitingRoom
    upstream: Upstream
    authenticator: Authenticator
    journal: Journal
    retries: RetryBudget
    patience: Patience
    queue_s: float
    key_of: KeyOf | None = None


class Exchange(Passage):
    """One request for a replica.

    It waits for a place if it must, is sent to one replica, and once more if that fails
    before the first byte of the body. Every try is counted. One that refers to a stored
    response goes on to the next replica as long as they answer that they do not know it.
    """

    __slots__ = (
        "_failed",
        "_flight",
        "_number",
        "_parts",
        "_queued",
        "_record",
        "_replica",
        "_request",
        "_retried",
        "_route",
        "_suspect",
        "_tenant",
        "_without",
    )

    def __init__(
        self, parts: Parts, client: ClientConnection, incoming: Incoming, route: Route
    ) -> None:
        super().__init__(parts.upstream, client, incoming)
        self._parts = parts
        self._route = route
        self._record = record = parts.journal.begun(client, incoming)
        self._more = ((REQUEST_ID_HEADER, record.request_id),)
        self._request: Request
        self._tenant = b""
        self._replica: Replica | None = None
        self._number = 0
        self._flight: Flight | None = None
        self._queued = False
        self._retried = False
        # Whose trial this is or, once it is retried, with whom its answer is compared.
        self._suspect: Replica | None = None
        self._failed: frozenset[Replica] = frozenset()
        self._without: frozenset[Replica] = frozenset()

    def start(self) -> None:
        incoming, parts = self._incoming, self._parts
        try:
            if not is_preflight(self._route, incoming):
                self._record.tenant = parts.authenticator.authenticate(incoming.headers)
            if self._client.crowded:
                raise out_of_descriptors("as many clients as there can be are served")
            self._headers = parts.authenticator.passed_on(self._record.headers)
            self._key_headers = parts.authenticator.replica_headers
            method = b"GET" if self._bodiless else incoming.method
            if method not in self._route.methods:
                raise method_not_allowed(incoming.method, incoming.target, self._route.methods)
            self._request = request = request_of(
                self._route, incoming, parts.router.default_model, parts.key_of
            )
            parts.retries.earn()
            if self._route.kind == "stored":
                self._identify(request)
                if not self._ask():
                    raise no_healthy_replica("There are no replicas")
                return
            choice = parts.router.choose(request, incoming.complete_s)
            self._identify(request)
            if choice is None or parts.waiting.waits(request.model):
                self._wait()
            else:
                self._attempt(choice)
        except ApiError as error:
            self.refuse(error)

    def _identify(self, request: Request) -> None:
        record = self._record
        record.model, record.prompt_tokens = request.model, request.prompt_tokens

    # For the waiting room.

    @property
    def request(self) -> Request:
        return self._request

    def placed(self, choice: Choice) -> None:
        self._called()
        self._attempt(choice)

    def turned_away(self, error: ApiError) -> None:
        self._called()
        self.refuse(error)

    def _called(self) -> None:
        self._queued = False
        self._record.wait_ends(self._request.model)
        self.deadline_s = math.inf

    def expire(self, now_s: float) -> None:
        if not self._queued:
            super().expire(now_s)
        elif now_s >= self.deadline_s:
            self._leave_queue()
            self.refuse(too_many_requests("No replica had a place in time"))

    def _wait(self) -> None:
        tenant = self._record.tenant
        self._tenant = tenant_of(self._incoming.headers) if tenant is None else tenant
        if not self._parts.waiting.enter(self._request.model, self._tenant, self):
            raise too_many_requests("Every replica is full, and so is the queue")
        self._queued = True
        self._record.wait_begins(self._request.model)
        self.deadline_s = self._incoming.complete_s + self._parts.queue_s

    def _leave_queue(self) -> None:
        if self._queued:
            self._queued = False
            self._record.wait_ends(self._request.model)
            self._parts.waiting.leave(self._request.model, self._tenant, self)

    def _attempt(self, choice: Choice) -> None:
        self._replica = replica = choice.replica
        now_s = time.monotonic()
        self._number = replica.breaker.sent(now_s)
        if replica.acceptance.services and not self._retried:
            trial = replica.acceptance.sent(self._request.service, now_s)
            self._suspect = replica if trial else None
        self._flight = self._parts.fleet.begin(replica, self._request)
        self._record.attempt_begins(replica.name, self._request.model, choice.reason)
        request_id = self._record.request_id
        self._more = ((REQUEST_ID_HEADER, request_id), (REPLICA_HEADER, replica.name_bytes))
        self.deadline_s = now_s + self._parts.patience.first_byte_s
        self.send(replica.endpoint)

    def begun(self, status: int, beginning: bytes) -> bool:
        replica, now_s = self._replica, time.monotonic()
        assert self._flight is not None
        assert replica is not None
        self._flight.answered()
        if status >= _FAILURE:
            replica.breaker.failed(self._number, now_s)
            self._leave_undecided()
            return not (status in _UNAVAILABLE and self._try_again())
        replica.breaker.succeeded(self._number, now_s)
        if self._request.stored_response:
            # Only the replica that gave a response knows of it.
            self._leave_undecided()
            if status != _NOT_FOUND:
                return True
            self._without |= {replica}
            return not self._ask()
        refused = is_refusal(status, beginning)
        if refused or replica.acceptance.services or self._suspect is not None:
            return not self._compare(replica, refused, now_s)
        return True

    def _compare(self, replica: Replica, refused: bool, now_s: float) -> bool:
        """Find out who refuses what others accept. Whether the request was sent elsewhere."""
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
            return self._try_again()
        replica.acceptance.suspend(service, now_s)
        if self._try_again(suspect=replica):
            return True
        if self._parts.router.trusts_other(self._request, replica, now_s):
            replica.acceptance.postponed(service, now_s)
        else:
            replica.acceptance.undecided(service, now_s)
        return False

    def _leave_undecided(self) -> None:
        suspect, self._suspect = self._suspect, None
        if suspect is not None:
            suspect.acceptance.undecided(self._request.service, time.monotonic())

    def passed(self) -> None:
        self.deadline_s = time.monotonic() + self._parts.patience.stall_s

    def failed(self, error: UpstreamError) -> None:
        replica = self._replica
        assert replica is not None
        self._leave_undecided()
        if isinstance(error, OutOfDescriptorsError):
            logger.error("no connection to a replica can be opened: %s", error)
            replica.breaker.abandoned(self._number)
            self._record.unsent()
            self._keep_alive = False  # that is one more
            self.cut(out_of_descriptors(str(error)))
            return
        self._record.failed(error.kind)
        logger.warning("replica %s %s", replica.name, error)
        replica.breaker.failed(self._number, time.monotonic())
        if isinstance(error, ConnectFailedError):
            self._parts.fleet.lost(replica, str(error))
        if self.status or isinstance(error, BadAnswerError) or not self._try_again(error):
            self.cut(_as_api_error(replica.name, error))

    def _try_again(
        self, error: UpstreamError | None = None, *, suspect: Replica | None = None
    ) -> bool:
        """Whether the request is tried elsewhere now, or on a new connection to the only one.

        What was not sent has cost no replica anything. All else, also what was lost on an
        idle connection, may have been worked on, and takes from the retries that are left,
        but for one that is compared with that of a `suspect`: that has refused to begin.
        """
        replica, parts = self._replica, self._parts
        assert replica is not None
        if self.sends >= _MOST_SENDS:
            return False
        self._failed |= {replica}
        router, request, now_s = parts.router, self._request, time.monotonic()
        if suspect is not None:
            choice = router.choose_to_compare(request, replica, now_s)
        else:
            choice = router.choose_other(request, self._failed, now_s)
        if choice is None and isinstance(error, IdleClosedError):
            choice = Choice(replica, "retry")
        if choice is None:
            return False
        free = suspect is not None or isinstance(error, ConnectFailedError)
        if not (free or parts.retries.spend()):
            return False
        self._retried = True
        self._suspect = suspect
        self._record.retried()
        self.drop_upstream()
        self._end_attempt()
        self._attempt(choice)
        parts.waiting.call()
        return True

    def _ask(self) -> bool:
        """Ask one that may have the response, or say that it cannot be asked. False: nobody has."""
        left = [
            replica
            for replica in self._parts.fleet.keepers(self._request.model)
            if replica not in self._without
        ]
        if not left:
            return False
        self.drop_upstream()
        self._end_attempt()
        able = next((replica for replica in left if replica.healthy), None)
        if able is not None:
            self._attempt(Choice(able, "stored-response"))
        else:
            names = ", ".join(replica.name for replica in left)
            self.cut(no_healthy_replica(f"Replicas that may have it are not healthy: {names}"))
        return True

    def ended(self, status: int) -> None:
        self._leave_queue()
        if self._suspect is not None:
            self._leave_undecided()
        if self._replica is not None and status == CLIENT_LEFT and not self.status:
            self._replica.breaker.abandoned(self._number)
        self._parts.journal.ended(self._record, self, status)
        self._end_attempt()
        self._parts.waiting.call()

    def refuse(self, error: ApiError) -> None:
        self._record.refused(error)
        super().refuse(error.at(self._incoming.target))

    def cut(self, error: ApiError) -> None:
        self._record.error = error
        super().cut(error.at(self._incoming.target))

    def _end_attempt(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None and self._replica is not None:
            flight.end()
            self._record.attempt_ends()


def _as_api_error(replica: str, error: UpstreamError) -> ApiError:
    if isinstance(error, ConnectFailedError):
        return no_healthy_replica(f"Replica {replica} {error}")
    return replica_failed(replica, str(error))
