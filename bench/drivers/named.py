"""The drivers by the names of `--driver`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.drivers.aiperf import AiperfDriver
from bench.drivers.builtin import BuiltinDriver
from bench.drivers.driver import Driver
from bench.drivers.genai_perf import GenaiPerfDriver
from bench.drivers.openai_sdk import OpenAiDriver
from bench.errors import UserError
from bench.processes.program import Site
from bench.progress import Progress

DRIVERS = ("builtin", "openai", "aiperf", "genai-perf")


def make_driver(
    name: str,
    cache: Path,
    tokenizer_folder: Callable[[str], Path],
    progress: Progress,
    site: Site,
    processes: int | None = None,
) -> Driver:
    """The driver of that name, installed under `cache` where it is a program of its own.

    `tokenizer_folder` is asked for a model's tokenizer when a load is sent. The built-in one
    shares a load among `processes` of `site`. Raises UserError for an
    unknown name, and where this machine cannot run the driver.
    """
    folders = _folders(cache / "logs" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    match name:
        case "builtin":
            return BuiltinDriver(site, processes)
        case "openai":
            return OpenAiDriver()
        case "aiperf":
            return AiperfDriver.installed(cache, folders, tokenizer_folder, progress)
        case "genai-perf":
            return GenaiPerfDriver.installed(cache, folders, tokenizer_folder, progress)
    raise UserError(f"unknown driver {name!r}; known: {', '.join(DRIVERS)}")


def _folders(base: Path) -> Iterator[Path]:
    """A folder for each load: its input, log and artifacts."""
    return (base / f"{number:04}" for number in itertools.count())
