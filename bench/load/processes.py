"""A load shared by several processes of this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.errors import UserError
from bench.load.drive import Load, run_load
from bench.load.gate import Gate
from bench.load.outcome import DriveResult, Ending
from bench.load.shard_files import load_bytes, result_of
from bench.load.shards import merge
from bench.process import Guarded, last_lines

_ROOT = Path(__file__).parents[2]
# After Ctrl-C: to read what the answers say, and to write it down.
_GRACE_S = 60.0


def run_spread(load: Load, *, processes: int, drain_timeout_s: float) -> DriveResult:
    """`run_load` in so many processes, which start at one instant.

    Ctrl-C reaches all of them and keeps what they measured. A process that is killed loses
    its samples alone: the result is LOST and says whose.

    The processes are started anew and not forked: this one has threads, and whatever else
    the caller does; and a shard is then the same thing here and on another machine: a
    program that is given a load, its index and a count, and leaves a file.

    Raises UserError when a process does not come up, or all of them are lost.
    """
    if processes == 1:
        return run_load(load, drain_timeout_s=drain_timeout_s)
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        (folder / "load.json").write_bytes(load_bytes(load))
        with (
            closing(Gate(folder / "gate")) as gate,
            _shards(folder, processes, drain_timeout_s) as shards,
        ):
            gate.wait_for(processes, lambda: _require_running(shards))
            gate.open()
            interrupted = _await_end(shards)
        result = _collect(shards)
    return replace(result, ending=Ending.INTERRUPTED) if interrupted else result


class _Shard:
    """One process and where its result will be."""

    def __init__(self, folder: Path, index: int, count: int, drain_timeout_s: float) -> None:
        self.name = f"load process {index + 1} of {count}"
        self.result = folder / f"result-{index}.json"
        files = (folder / "load.json", folder / "gate", self.result)
        load, gate, result = map(str, files)
        which = [load, str(index), str(count), str(drain_timeout_s), gate, result]
        self.process = Guarded(
            [sys.executable, "-m", "bench.load.shard_process", *which],
            log=folder / f"shard-{index}.log",
            folder=_ROOT,
            grace_s=_GRACE_S,
        )

    @property
    def last_words(self) -> str:
        return last_lines(self.process.log) or "it said nothing"


@contextmanager
def _shards(folder: Path, count: int, drain_timeout_s: float) -> Iterator[Sequence[_Shard]]:
    """So many shards; whatever happens, none outlives the block."""
    shards: list[_Shard] = []
    try:
        shards.extend(_Shard(folder, index, count, drain_timeout_s) for index in range(count))
        yield shards
    finally:
        for shard in shards:
            shard.process.ask_to_end()
        for shard in shards:
            shard.process.terminate()


def _require_running(shards: Sequence[_Shard]) -> None:
    for shard in shards:
        if shard.process.poll() is not None:
            raise UserError(f"{shard.name} did not start: {shard.last_words}")


def _await_end(shards: Sequence[_Shard]) -> bool:
    """Wait until all have ended, asked to by Ctrl-C if it comes: whether it did."""
    try:
        for shard in shards:
            while shard.process.wait(1.0) is None:
                pass
    except KeyboardInterrupt:
        for shard in shards:
            shard.process.ask_to_end()
        for shard in shards:
            shard.process.terminate()
        return True
    return False


def _collect(shards: Sequence[_Shard]) -> DriveResult:
    """The results that there are, as one."""
    found = [result_of(shard.result.read_bytes()) for shard in shards if shard.result.exists()]
    lost = [_loss(shard) for shard in shards if not shard.result.exists()]
    if not found:
        raise UserError(f"all load processes were lost; {lost[0]}")
    return merge(found, lost)


def _loss(shard: _Shard) -> str:
    return f"{shard.name} ended with {shard.process.poll()} and left no samples: {shard.last_words}"
