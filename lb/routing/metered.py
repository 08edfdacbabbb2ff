"""Requests whose tokens count as service of their tenant: `--fairness tokens`."""

from __future__ import annotations

import re

from lb.http.downstream import ClientConnection, Incoming
from lb.http.relay import is_event_stream
from lb.policies.choice import Choice
from lb.routing.exchange import Components, Exchange
from lb.routing.routes import Route

# What a token of an answer costs, in tokens of a prompt; see `queue_aware.DECODE_TOKENS`.
ANSWER_WEIGHT = 5

# vLLM sends an event for each token. Lines end in LF, or in CR LF.
_ENDS_OF_EVENT = (b"\n\n", b"\n\r\n")
# What is no stream says near its end how many tokens it has; embeddings and errors have none.
_USAGE = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,9})')
_END_BYTES = 1024


class MeteredExchange(Exchange):
    """Counts the prompt when the request is first sent, and the answer as it comes."""

    __slots__ = ("_end", "_metered", "_streamed")

    def __init__(
        self, components: Components, client: ClientConnection, incoming: Incoming, route: Route
    ) -> None:
        super().__init__(components, client, incoming, route)
        self._metered = False
        self._streamed: bool | None = None
        self._end = b""

    def _send_to(self, choice: Choice) -> None:
        self._streamed, self._end = None, b""
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
        if self._streamed:
            tokens = sum(map(data.count, _ENDS_OF_EVENT))
        else:
            self._end = (self._end + data)[-_END_BYTES:]
            tokens = sum(map(int, _USAGE.findall(self._end)[-1:])) if complete else 0
        # Before the end of the request lets the next one begin.
        self._components.queues.of(self._request.model).serve(self._tenant, ANSWER_WEIGHT * tokens)
        super().on_data(data, complete)
