"""The standard streams of a command in a container, over one websocket to the API server.

Subprotocol `v5.channel.k8s.io`: each message begins with the number of its stream. It is the
first version that can close a single stream, which a program needs to see the end of its input.
Kubernetes speaks it from 1.30 on.
"""

from __future__ import annotations

import contextlib
import json
import select
import ssl
import threading

from websocket import ABNF, WebSocket, WebSocketException

from bench.processes.program import output_of

STDIN, STDOUT, STDERR, STATUS = range(4)
_CLOSE = 255
PROTOCOL = "v5.channel.k8s.io"
_CHUNK_BYTES = 64 * 1024
# For the API server to take or to send the rest of one message.
_MESSAGE_TIMEOUT_S = 60.0
# Whatever lies between here and the API server may drop idle connections.
_PING_PERIOD_S = 20.0


class Streams:
    """One thread may receive while another sends. No method raises if the connection is lost.

    A lock keeps them from using the socket at once, which TLS does not allow.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._socket.settimeout(_MESSAGE_TIMEOUT_S)
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        """Write to the command's standard input."""
        for start in range(0, len(data), _CHUNK_BYTES):
            if not self._send(bytes([STDIN]) + data[start : start + _CHUNK_BYTES]):
                return

    def end_input(self) -> None:
        """Close the command's standard input. Safe to repeat."""
        self._send(bytes([_CLOSE, STDIN]))

    def receive(self) -> tuple[int, bytes] | None:
        """The next message as stream and data; None when there will be no more."""
        with contextlib.suppress(WebSocketException, OSError, ValueError):
            while True:
                self._wait_for_data()
                with self._lock:
                    kind, frame = self._socket.recv_data_frame(control_frame=True)
                if kind == ABNF.OPCODE_CLOSE:
                    return None
                if kind == ABNF.OPCODE_BINARY and len(frame.data) > 1 and frame.data[0] != _CLOSE:
                    return frame.data[0], bytes(frame.data[1:])
        return None

    def abort(self) -> None:
        """Cut the connection, also while another thread receives. Safe to repeat."""
        with contextlib.suppress(WebSocketException, OSError):
            self._socket.abort()

    def close(self) -> None:
        """Release the socket, once no thread uses it."""
        self._socket.shutdown()

    def _send(self, message: bytes) -> bool:
        """Send one message; False if the connection is lost."""
        try:
            with self._lock:
                self._socket.send_binary(message)
        except (WebSocketException, OSError):
            return False
        return True

    def _wait_for_data(self) -> None:
        """Return when the socket has something to receive, which stays in it."""
        socket = self._socket.sock
        if isinstance(socket, ssl.SSLSocket) and socket.pending():
            return
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        while not poll.poll(_PING_PERIOD_S * 1000):
            with self._lock:
                self._socket.ping()


def outcome(streams: Streams) -> str:
    """What a command without input writes, once it has ended.

    Raises UserError if it does not succeed, or the connection is lost.
    """
    streams.end_input()
    written = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}
    while received := streams.receive():
        stream, data = received
        if stream in written:
            written[stream] += data
    streams.close()
    code = exit_code(bytes(written[STATUS]))
    return output_of(code, bytes(written[STDOUT]), bytes(written[STDERR]))


def exit_code(status: bytes) -> int | None:
    """The exit code in a command's last message (on STATUS); None if there is none in it."""
    try:
        message = json.loads(status)
        if message["status"] == "Success":
            return 0
        causes = [one for one in message["details"]["causes"] if one["reason"] == "ExitCode"]
        return int(str(causes[0]["message"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
