"""A program for a pod: gives back the first block of its input, or listens to nothing at all."""

from __future__ import annotations

import sys
import time

from bench.processes.program import block, standard_input, take_block

if sys.argv[1:] == ["deaf"]:
    print("deaf", flush=True)
    time.sleep(600)
sys.stdout.buffer.write(block(take_block(standard_input())))
sys.stdout.buffer.flush()
standard_input().readline()
