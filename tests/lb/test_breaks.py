"""What breaks, at whatever byte, never ends as if it were complete."""

from __future__ import annotations

import pytest

from lb.http.upstream.connection import Connection
from tests.lb.messages import REPLIES, REQUESTS
from tests.lb.wires import Proxy, read_answers

KINDS = {
    "1.1": REQUESTS["length"],
    "1.1, close": REQUESTS["close"],
    "1.0": REQUESTS["1.0"],
    "1.0, kept": REQUESTS["1.0, kept"],
}
BREAKS = ["reset", "closed", "garbage", "too slow", "stopped", "client stalls"]


def broken(proxy: Proxy, connection: Connection, how: str) -> None:
    match how:
        case "reset":
            connection.connection_lost(ConnectionResetError())
        case "closed":
            connection.eof_received()
            connection.connection_lost(None)
        case "garbage":
            connection.data_received(b"\0" * 100)
            connection.eof_received()
        case "too slow":
            proxy.expire()
        case "stopped":
            proxy.stop()
        case _:
            proxy.stall()


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name, reply in REPLIES.items() if reply.status == 200])
def test_what_breaks_never_ends_as_if_complete(name: str, kind: str, how: str) -> None:
    """At each byte. A body is what came, and then an end that is none, or an error event."""
    request, reply = KINDS[kind], REPLIES[name]
    if (how == "closed" and not reply.framed) or (how == "garbage" and not reply.chunked):
        return  # nobody can tell
    for place in range(len(reply.data)):
        proxy = Proxy()
        proxy.send([request.data])
        connection = proxy.answer([reply.data[:place]] if place else [])
        assert connection is not None
        broken(proxy, connection, how)
        answers = read_answers(proxy.client.written, ["POST"], proxy.client.ended)
        if not answers:  # a client that stalls before there is an answer
            assert how == "client stalls"
            continue
        (answer,) = answers
        if answer.status != 200:
            assert (answer.status, answer.whole) == (502, True)
        elif reply.appendable and how != "client stalls":
            assert answer.whole
            kept, _, event = answer.body.rpartition(b"\n\ndata: ")
            assert reply.body.startswith(kept.rstrip(b"\0"))
            assert event.startswith(b'{"error":')
            assert event.endswith(b"\n\n")
        else:
            assert not answer.whole
