"""This machine, which one run at a time may measure on: two would disturb each other's timings.

The run that holds it listens on a unix socket with an abstract name. Whoever cannot bind that name
asks there who holds it. The kernel gives the name free however the holder ends, and there is no
file that another user could not open. Containers see each other if they share a network namespace.
"""

from __future__ import annotations

import json
import math
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import psutil

from bench.errors import UserError
from bench.progress import Progress

ADDRESS = "\0llm-bench"
POLL_S = 0.2
# How often the holder is asked who it is, and how long that may take.
ASK_EVERY_S = 5.0
ANSWER_TIMEOUT_S = 1.0
_ANSWER_BYTES = 4096
_LONGEST = 200
_CREDENTIALS = struct.Struct("3i")  # process, user, group


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that holds the machine; `pid` is 0 where it cannot be seen from here.

    The kernel tells `pid` and `user`, the process itself the rest, if it answers.
    """

    pid: int = 0
    user: str = "unknown"
    what: str = "a program that does not answer"
    folder: str = ""
    held_s: float | None = None

    def __str__(self) -> str:
        process = f"process {self.pid}" if self.pid else "a process that cannot be seen from here"
        folder = f", folder {self.folder}" if self.folder else ""
        since = "" if self.held_s is None else f", for {duration(self.held_s)} now"
        return f"{self.what} (user {self.user}, {process}{folder}{since})"

    def is_same_as(self, other: _Holder) -> bool:
        """Whether it is the same run, asked at another time."""
        return (self.pid, self.what, self.folder) == (other.pid, other.what, other.folder)


@contextmanager
def hold_machine(
    what: str, progress: Progress, timeout_s: float, *, address: str = ADDRESS
) -> Iterator[None]:
    """Hold this machine while the context lasts; `what` names this run to others.

    Processes that a holder has started are part of its run, and go on at once. Others wait, at
    most `timeout_s` seconds; math.inf is for ever. Raises UserError that names the holder then.
    """
    listener = _bind(address) or _wait(progress, monotonic() + timeout_s, timeout_s, address)
    if listener is None:
        yield
        return
    said = {"what": what, "folder": str(Path.cwd())}
    answers = Thread(target=_answer, args=(listener, said), daemon=True)
    answers.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # ends the thread, whose accept holds the name as well
        answers.join()
        listener.close()


def machine_holder(address: str = ADDRESS) -> str | None:
    """Which run holds this machine, in words; None if none does."""
    found = _ask(address)
    return None if found is None else str(found)


def user_name(user: int) -> str:
    """The name of a user of this machine; the number where it has none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def duration(seconds: float) -> str:
    """`45 s`, or `12 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _wait(
    progress: Progress, deadline_s: float, timeout_s: float, address: str
) -> socket.socket | None:
    """The socket that holds the machine; None if this process is part of the run that has it."""
    family = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    while True:
        holder = _ask(address)
        if holder is not None and holder.pid in family:
            return None
        if holder is not None and monotonic() < deadline_s:
            listener = _outwait(holder, progress, deadline_s, address)
        else:
            listener = _bind(address)
        if listener is not None:
            return listener
        if monotonic() >= deadline_s:
            raise _refusal(holder or _Holder(), timeout_s)
        sleep(POLL_S)


def _outwait(
    holder: _Holder, progress: Progress, deadline_s: float, address: str
) -> socket.socket | None:
    """Wait for `holder`: the socket that holds the machine, or None if another one has it then.

    None is also returned when the time is over.
    """
    asked_s = monotonic()
    progress.note(f"this machine is in use by {holder}")
    with progress.step("waiting for this machine") as step:
        while (listener := _bind(address)) is None and (now_s := monotonic()) < deadline_s:
            if now_s - asked_s >= ASK_EVERY_S:
                asked_s, found = now_s, _ask(address)
                if found is not None and not found.is_same_as(holder):
                    return None
            if deadline_s < math.inf:
                step.update(f"gives up in {duration(deadline_s - now_s)}")
            sleep(min(POLL_S, deadline_s - now_s))
        return listener


def _refusal(holder: _Holder, waited_s: float) -> UserError:
    end = f", or end it (kill {holder.pid})" if holder.pid else ""
    return UserError(
        f"this machine is in use by {holder}; waited for {waited_s:g} s, --wait-for-run S allows "
        f"more; let it end{end}"
    )


def _bind(address: str) -> socket.socket | None:
    """A listening socket with the name; None if another one has it."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        return None
    listener.listen()
    return listener


def _ask(address: str) -> _Holder | None:
    """Who holds the machine; None if nobody does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.connect(address)
        except ConnectionRefusedError:
            return None
        except OSError:  # it has been stopped, and as many have asked as fit into its queue
            return _Holder()
        size = _CREDENTIALS.size
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, user, _ = _CREDENTIALS.unpack(credentials)
        answer = b""
        with suppress(OSError):
            while len(answer) < _ANSWER_BYTES and (part := connection.recv(_ANSWER_BYTES)):
                answer += part
    return _read(_Holder(pid, user_name(user)), answer)


def _read(holder: _Holder, answer: bytes) -> _Holder:
    """`holder` with what it says of itself. It may be any program: that is kept short and plain."""
    try:
        said = json.loads(answer)
        what, folder, held_s = str(said["what"]), str(said["folder"]), float(said["held_s"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return holder
    return _Holder(holder.pid, holder.user, _plain(what), _plain(folder), held_s)


def _plain(text: str) -> str:
    return "".join(filter(str.isprintable, text))[:_LONGEST]


def _answer(listener: socket.socket, said: dict[str, str]) -> None:
    """Tell everybody who asks, until the socket is shut down."""
    began_s = monotonic()
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.sendall(json.dumps({**said, "held_s": monotonic() - began_s}).encode())
