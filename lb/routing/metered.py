"""Requests whose tokens count as service of their tenant: `--fairness tokens`."""

from __future__ import annotations

from lb.http.downstream import ClientConnection, Incoming
from lb.http.relay import is_event_stream
from lb.policies.choice import Choice
from lb.routing.exchange import Components, Exchange
from lb.routing.request_parser import BYTES_PER_TOKEN
from lb.routing.routes import Route

# What a token of an answer costs, in tokens of a prompt; see `queue_aware.DECODE_TOKENS`.
ANSWER_WEIGHT = 5

# vLLM sends an event for each token, other answers in one piece.
_END_OF_EVENT = b"\n\n"


class MeteredExchange(Exchange):
    """Counts the prompt when the request is first sent, and the answer as it comes."""

    __slots__ = ("_metered", "_streamed")

    def __init__(
        self, components: Components, client: ClientConnection, incoming: Incoming, route: Route
    ) -> None:
        super().__init__(components, client, incoming, route)
        self._metered = False
        self._streamed: bool | None = None

    def _send_to(self, choice: Choice) -> None:
        self._streamed = None
        if not self._metered:
            self._metered = True
            self._tenant = self._find_tenant()
            request = self._request
            self._components.queues.of(request.model).begin(self._tenant, request.prompt_tokens)
        super()._send_to(choice)

    def on_data(self, data: bytes, complete: bool) -> None:
        if self._streamed is None:
            assert self._connection is not None
            self._streamed = is_event_stream(self._connection.headers)
        tokens = data.count(_END_OF_EVENT) if self._streamed else len(data) // BYTES_PER_TOKEN
        # Before the end of the request lets the next one begin.
        self._components.queues.of(self._request.model).serve(self._tenant, ANSWER_WEIGHT * tokens)
        super().on_data(data, complete)
