"""What every driver offers to the rest of the suite, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.load.run.drive import DriveResult, Load
from bench.processes.program import Site
from bench.progress import Progress


class Driver(Protocol):
    """Sends loads, one after the other."""

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        """Send `load`; what is unanswered `drain_timeout_s` after its window is a TIMEOUT.

        The result names this driver. Raises UserError with one line where it cannot send this
        load, or fails.
        """
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What a driver may need.

    A tool is installed under `cache`; each load gets the next one of `folders`, for its input,
    log and results. `tokenizer_folder` is asked for a model's tokenizer when a load is sent.
    The built-in driver shares a load among `processes` of `site`.
    """

    cache: Path
    folders: Iterator[Path]
    tokenizer_folder: Callable[[str], Path | None]
    progress: Progress
    site: Site
    processes: int | None = None
