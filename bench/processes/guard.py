"""Runs a command, and ends it when the guard's standard input is closed.

    guard.py GRACE_S COMMAND...
        The command's input is empty. When the guard's is closed, the command gets SIGTERM;
        if the guard has read `keep` before that, the command runs on by itself instead.
    guard.py --module GRACE_S MODULE ARGUMENT...
        A program of the suite, run by the same Python. It gets all of the guard's input, and is
        expected to end when that ends.

After `GRACE_S` seconds more its whole process group gets SIGKILL. The exit code is the
command's, 128 + n after signal n; 127 if it cannot be started.

Whoever starts a guard holds the other end of its input open. The kernel closes a pipe however
its holder ends, kill -9 included, which no handler inside the holder could promise; in a pod
the container runtime closes it when the connection is lost. `guarded` runs this file as a
script of the standard library alone, so it imports nothing else.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading

MODULE = "--module"
KEEP = b"keep"
_AT_ONCE = 1 << 20


def main(grace_s: float, command: list[str], *, forward_input: bool) -> int:
    """Run `command` in a process group of its own; return its exit code as a shell does."""
    stdin = subprocess.PIPE if forward_input else subprocess.DEVNULL
    try:
        child = subprocess.Popen(command, stdin=stdin, start_new_session=True)
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", flush=True)
        return 127
    threading.Thread(target=_end_without_input, args=(child, grace_s), daemon=True).start()
    if child.stdin is not None:
        threading.Thread(target=_copy_input, args=(child,), daemon=True).start()
    code = child.wait()
    signal_group(child.pid, signal.SIGKILL)  # what it left behind
    return code if code >= 0 else 128 - code


def _end_without_input(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """End it once the input is closed, though not all of the input may have been read."""
    if child.stdin is None:
        if os.read(0, len(KEEP)) == KEEP:
            return
        signal_group(child.pid, signal.SIGTERM)
    else:
        closed = select.poll()
        closed.register(0, 0)
        closed.poll()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    signal_group(child.pid, signal.SIGKILL)


def _copy_input(child: subprocess.Popen[bytes]) -> None:
    """Pass all input on, even before the child reads it, so that the sender can close its end."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError), child.stdin:
        while data := os.read(0, _AT_ONCE):
            child.stdin.write(data)
            child.stdin.flush()


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal all processes of a group, if it has any left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    if sys.argv[1] == MODULE:
        program = [sys.executable, "-m", *sys.argv[3:]]
        sys.exit(main(float(sys.argv[2]), program, forward_input=True))
    sys.exit(main(float(sys.argv[1]), sys.argv[2:], forward_input=False))
