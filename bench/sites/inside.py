"""For the programs themselves: what their standard input says while they work."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable

from bench.sites.wire import END


def standard_input() -> io.FileIO:
    """Standard input as it comes: nothing is read ahead of whoever reads next.

    The buffered one must not be read in a thread: Python aborts if it ends meanwhile.
    """
    return io.FileIO(0, closefd=False)


def heed_input(at_end: Callable[[], None]) -> None:
    """From now on call `at_end`, in another thread, when the input says `end`.

    When it is closed, nobody is there any more to take a result: the process exits at once.
    """
    threading.Thread(target=_heed, args=(at_end,), daemon=True).start()


def _heed(at_end: Callable[[], None]) -> None:
    lines = standard_input()
    while line := lines.readline():
        if line == END:
            at_end()
    os._exit(1)
