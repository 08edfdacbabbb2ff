"""The streams of a command in a container, over one websocket to the API server.

Protocol `v5.channel.k8s.io`: each message begins with the number of its stream. It is the
first one that can say that a stream is over, without which no program would learn that its
input is: Kubernetes speaks it from 1.30 on.
"""

from __future__ import annotations

import contextlib
import json
import select
import ssl
import threading
from collections.abc import Mapping

from kubernetes.client import Configuration
from kubernetes.stream.ws_client import create_websocket, get_websocket_url
from websocket import ABNF, WebSocket, WebSocketBadStatusException, WebSocketException

from bench.environments.kubernetes.cluster.errors import away, refusal
from bench.errors import UserError

STDIN, STDOUT, STDERR, STATUS = range(4)
_OVER = 255
_PROTOCOL = "v5.channel.k8s.io"
_AT_ONCE = 64 * 1024
# For the other side to take in or to send the rest of one message.
_STALLED_S = 60.0
# What is between here and the API server may drop connections on which nothing happens.
_PING_EVERY_S = 20.0
Received = tuple[int, bytes]


class Streams:
    """One thread may receive while another one sends; raises nothing when the other side is gone.

    A message is sent or received at a time: TLS does not take both at once.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._socket.settimeout(_STALLED_S)
        self._turn = threading.Lock()

    @classmethod
    def opened(
        cls, action: str, configuration: Configuration, url: str, headers: Mapping[str, str]
    ) -> Streams:
        """Connect; `action` is what for. Raises UserError where the API server refuses."""
        asked = {**headers, "sec-websocket-protocol": _PROTOCOL}
        try:
            socket = create_websocket(configuration, get_websocket_url(url), asked)
        except WebSocketBadStatusException as error:
            told = (error.resp_body or b"").decode(errors="replace")
            raise refusal(action, error.status_code, error.status_message or "", told) from None
        except (WebSocketException, OSError) as error:
            raise away(action, configuration.host, error) from None
        # Asked for by a header, it is not known as the socket's own.
        if (socket.getheaders() or {}).get("sec-websocket-protocol") != _PROTOCOL:
            socket.shutdown()
            raise UserError(
                f"cannot {action}: the API server {configuration.host} does not speak {_PROTOCOL}, "
                "which Kubernetes does from 1.30 on; is there a proxy in between?"
            )
        return cls(socket)

    def send(self, data: bytes) -> None:
        """Write to the command's input."""
        with contextlib.suppress(WebSocketException, OSError):
            for start in range(0, len(data), _AT_ONCE):
                self._say(bytes([STDIN]) + data[start : start + _AT_ONCE])

    def end_input(self) -> None:
        """Close the command's input; safe to repeat."""
        with contextlib.suppress(WebSocketException, OSError):
            self._say(bytes([_OVER, STDIN]))

    def receive(self) -> Received | None:
        """The next message of a stream; None when there will be no more."""
        with contextlib.suppress(WebSocketException, OSError, ValueError):
            while True:
                self._await_message()
                with self._turn:
                    kind, frame = self._socket.recv_data_frame(control_frame=True)
                if kind == ABNF.OPCODE_CLOSE:
                    return None
                if kind == ABNF.OPCODE_BINARY and len(frame.data) > 1 and frame.data[0] != _OVER:
                    return frame.data[0], bytes(frame.data[1:])
        return None

    def drop(self) -> None:
        """Close the connection, also while another thread receives; safe to repeat."""
        with contextlib.suppress(WebSocketException, OSError):
            self._socket.abort()

    def close(self) -> None:
        """Give back the socket, when nobody uses it any more."""
        self._socket.shutdown()

    def _say(self, message: bytes) -> None:
        with self._turn:
            self._socket.send_binary(message)

    def _await_message(self) -> None:
        """Return when there is something to receive, which is not taken from the socket yet."""
        socket = self._socket.sock
        if isinstance(socket, ssl.SSLSocket) and socket.pending():
            return
        waiting = select.poll()
        waiting.register(socket, select.POLLIN)
        while not waiting.poll(_PING_EVERY_S * 1000):
            with self._turn:
                self._socket.ping()


def exit_code(status: bytes) -> int | None:
    """The exit code in the last message of a command; None if that tells none."""
    try:
        told = json.loads(status)
    except ValueError:
        return None
    if told.get("status") == "Success":
        return 0
    for cause in (told.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdigit():
            return int(cause["message"])
    return None
