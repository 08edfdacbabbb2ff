"""Memory of GPUs over time, while a trial runs: a program beside the engines reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import fsum
from pathlib import Path
from time import monotonic

from bench.config.memory import GIB
from bench.environments.kvcached.collecting import UNPATCHED, Console
from bench.environments.kvcached.texts import NVIDIA_SMI, read_gpus, read_segments
from bench.errors import UserError
from bench.processes.clocks import ask_clock
from bench.processes.program import END, Program
from bench.records import MemoryReading, MemorySeries

# Loading what reads segments takes seconds, more where engines keep the cores busy.
_READY_S = 60.0
_ANSWER_S = 30.0
_PROGRAM = Path(__file__).with_name("memory_watch.py").read_text(encoding="utf-8")
COMMAND = (*UNPATCHED, "python3", "-c", _PROGRAM, *NVIDIA_SMI)


class MemoryWatch:
    """What engines took of their GPUs, once `watching` has ended; nothing of no engines."""

    def __init__(self) -> None:
        self.series: tuple[MemorySeries, ...] = ()

    def since(self, start_s: float) -> tuple[MemorySeries, ...]:
        """A series for each place; times count from `start_s` of this process's clock.

        A reading that failed has its error. If all are lost, there is one, with the error.
        """
        return tuple(
            replace(
                series,
                readings=tuple(replace(one, at_s=one.at_s - start_s) for one in series.readings),
            )
            for series in self.series
        )


@contextmanager
def watching(consoles: Sequence[Console]) -> Iterator[MemoryWatch]:
    """Read the memory of all engines' GPUs each second within the context.

    There is a reading from before the context is entered. What cannot be read is no error.
    """
    watch, readers = MemoryWatch(), list[_Reader]()
    try:
        for place in dict.fromkeys(one.place for one in consoles):
            readers.append(_Reader(place, [one for one in consoles if one.place == place]))
        for reader in readers:
            reader.await_first()
        yield watch
    finally:
        watch.series = tuple([reader.end() for reader in readers])


class _Reader:
    """The program beside the engines of one place; it is asked nothing more after an error."""

    def __init__(self, place: str, consoles: Sequence[Console]) -> None:
        self._place = place
        self._engines = {one.ipc: one.engine for one in consoles}
        self._program: Program | None = None
        self._ahead_s = 0.0
        self._error = ""
        with self._kept_error():
            self._program = consoles[0].start(COMMAND)

    def await_first(self) -> None:
        """Return when it has read for the first time."""
        if self._program is not None:
            with self._kept_error():
                self._ahead_s = ask_clock(self._program, _READY_S).ahead_s

    def end(self) -> MemorySeries:
        """End it, and take what it has read."""
        readings: tuple[MemoryReading, ...] = ()
        if self._program is not None:
            if not self._error:
                with self._kept_error():
                    self._program.send(END)
                    line = self._program.line(_ANSWER_S)
                    readings = read_rows(line, self._engines, self._ahead_s)
            self._program.close()
        if self._error:
            readings = (MemoryReading(monotonic(), error=self._error),)
        return MemorySeries(self._place, readings)

    @contextmanager
    def _kept_error(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            self._error = str(error)


def read_rows(line: bytes, engines: Mapping[str, str], ahead_s: float) -> tuple[MemoryReading, ...]:
    """The answer of memory_watch.py, whose clock is `ahead_s` ahead; `engines` by their segment.

    Raises UserError for any other text.
    """
    try:
        rows = [(float(at_s) - ahead_s, f"{gpus}", f"{kv}") for at_s, gpus, kv in json.loads(line)]
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"it said {line[:80]!r} where its readings were due") from None
    return tuple(_reading(*row, engines) for row in rows)


def _reading(at_s: float, gpus: str, kv: str, engines: Mapping[str, str]) -> MemoryReading:
    """What was read at one time, from the texts of nvidia-smi and of kvctl."""
    reading = MemoryReading(at_s)
    try:
        reading = replace(reading, used_gib=fsum(one.used_gib for one in read_gpus(gpus)))
        kv_gib = {
            engines[one.ipc]: one.used_bytes / GIB
            for one in read_segments(kv)
            if one.ipc in engines
        }
        return replace(reading, kv_gib=kv_gib)
    except UserError as error:
        return replace(reading, error=str(error))
