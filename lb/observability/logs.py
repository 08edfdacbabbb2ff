"""The access log, and a filter that keeps the other log short.

The access log has a JSON object for each request, on a line. A thread writes them in batches: a
slow disk, or a pipe that nobody reads, must not block the event loop.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import SimpleQueue
from threading import Thread

import orjson

from lb.errors import UserError

logger = logging.getLogger("lb")

_BATCH_BYTES = 64 * 1024
# Batches that may wait to be written: beyond them lines are dropped.
_MAX_BATCHES = 64
_LAST_WRITE_S = 2.0
_STDOUT = 1
_WARN_EVERY_S = 60.0

_REPEAT_S = 10.0
_MAX_MESSAGES = 1000


class AccessLog:
    """Appends to `target`, a path or "-" for stdout. Raises UserError if it cannot be opened.

    Lines that cannot be written are lost, with a warning at most once a minute.
    """

    def __init__(self, target: str) -> None:
        self._name = "stdout" if target == "-" else target
        self._file = _STDOUT if target == "-" else _open(target)
        self._lines: list[bytes] = []
        self._bytes = 0
        self._lost = 0
        self._warn_s = -math.inf
        # Appends of several processes to a file never mix; to a pipe only if they are short.
        is_pipe = stat.S_ISFIFO(os.fstat(self._file).st_mode)
        self._piece_bytes = select.PIPE_BUF if is_pipe else _BATCH_BYTES
        self._torn = False
        self._batches: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._writer = Thread(target=self._write_batches, name="access-log", daemon=True)
        self._writer.start()

    def write(self, entry: Mapping[str, object]) -> None:
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand the lines to the thread."""
        lines, self._lines, self._bytes = self._lines, [], 0
        if lines and self._batches.qsize() >= _MAX_BATCHES:
            self._lose(len(lines), "it is written more slowly than requests end")
        elif lines:
            self._batches.put(lines)

    def close(self) -> None:
        """Write the last lines, for at most two seconds."""
        self.flush()
        self._batches.put(None)
        self._writer.join(_LAST_WRITE_S)

    def _lose(self, count: int, reason: str) -> None:
        self._lost += count
        now_s = time.monotonic()
        if now_s > self._warn_s:
            self._warn_s = now_s + _WARN_EVERY_S
            message = "lines of the access log to %s are lost, %d so far: %s"
            logger.warning(message, self._name, self._lost, reason)

    # The thread runs these.

    def _write_batches(self) -> None:
        while (lines := self._batches.get()) is not None:
            for piece in _pieces(lines, self._piece_bytes):
                self._append(piece)
        if self._file != _STDOUT:
            os.close(self._file)

    def _append(self, piece: bytes) -> None:
        whole = b"\n" + piece if self._torn else piece
        rest = memoryview(whole)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._torn = False
        except OSError as error:
            self._torn = self._torn or len(rest) < len(whole)
            self._lose(bytes(rest).count(b"\n"), error.strerror or str(error))


def check_target(target: str) -> None:
    """Raises UserError if an access log cannot be written there."""
    if target != "-":
        os.close(_open(target))


def _open(path: str) -> int:
    try:
        # Non-blocking, or a pipe that nobody reads would be waited for.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o640)
    except OSError as error:
        nobody = error.errno == errno.ENXIO
        reason = "it is a pipe that nobody reads" if nobody else error.strerror
        raise UserError(f"--access-log {path} cannot be written: {reason}") from None
    os.set_blocking(file, True)
    return file


def _pieces(lines: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Joins lines to pieces of up to `max_bytes`, or one longer line."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > max_bytes and piece:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)


class RepeatFilter(logging.Filter):
    """Drops a message that was logged less than `interval_s` ago.

    The next equal message says how many were dropped. In an outage every request would log
    the same.
    """

    def __init__(
        self, interval_s: float = _REPEAT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._clock = clock
        # By message: when it was logged, and how often it was dropped since.
        self._logged: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message, now_s = record.getMessage(), self._clock()
        logged_s, dropped = self._logged.get(message, (-math.inf, 0))
        if now_s < logged_s + self._interval_s:
            self._logged[message] = (logged_s, dropped + 1)
            return False
        if len(self._logged) >= _MAX_MESSAGES:
            self._logged.clear()
        self._logged[message] = (now_s, 0)
        if dropped:
            record.msg, record.args = f"{message} (and {dropped} times before)", ()
        return True
