"""Another user of the machine: takes a part of each core's time, at random times.

Not imported: `command` runs this file as a script. It leaves the process that started it, so
that its time counts as that of others, and ends when its standard input is closed, which the
kernel does however that process ends.
"""

from __future__ import annotations

import os
import random
import select
import sys
import time

# Mean length of a piece of work; that of the rests follows from the share.
_WORK_S = 0.3


def disturb(share: float, seed: int) -> None:
    """Work and rest by turns, for exponentially distributed times, until the input is closed."""
    times = random.Random(seed)
    rest_s = 0.0
    while not select.select([sys.stdin], [], [], rest_s)[0]:
        until_s = time.monotonic() + times.expovariate(1 / _WORK_S)
        while time.monotonic() < until_s:
            pass
        rest_s = times.expovariate(1 / (_WORK_S * (1 / share - 1)))


def main(share: float, seed: int) -> None:
    """One process for each core that may be used, wherever the kernel puts them."""
    for index in range(len(os.sched_getaffinity(0))):
        if os.fork() == 0:
            disturb(share, seed + index)
            return


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
