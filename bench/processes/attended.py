"""A program whose input comes from afar: `python -m bench.processes.attended MODULE ARGUMENT...`.

Runs `python -m MODULE ARGUMENT...` and hands its own input on to it. When that is closed,
because nobody wants the program any more or the connection is lost, the program's is closed as
well, and some seconds later the program is killed if it still runs: nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence

GRACE_S = 5.0
_AT_ONCE = 1 << 20


def main(command: Sequence[str]) -> int:
    """Run `command`, a module and its arguments; its exit code, 128 + n after signal n."""
    child = subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.PIPE)
    for work in (_hand_on, _end_without_input):
        threading.Thread(target=work, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _hand_on(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        while data := os.read(0, _AT_ONCE):
            child.stdin.write(data)
            child.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()


def _end_without_input(child: subprocess.Popen[bytes]) -> None:
    """Kill it some time after the input was closed, though it may not have taken in all of it."""
    hung_up = select.poll()
    hung_up.register(0, 0)
    hung_up.poll()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    child.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
