"""What sends the load: the built-in client, the openai SDK, or another tool.

To add a driver, write its module here, with `make(setup: Setup) -> Driver`, and name it in DRIVERS.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from bench.drivers.driver import Driver, Setup
from bench.errors import UserError
from bench.processes.program import Site
from bench.progress import Progress

__all__ = ["DRIVERS", "Driver", "make_driver"]

DRIVERS: Mapping[str, str] = {
    "builtin": "builtin",
    "openai": "openai_sdk",
    "aiperf": "aiperf",
    "genai-perf": "genai_perf",
}
"""The modules by the names of `--driver`. Only the module of the chosen one is imported."""


def make_driver(
    name: str,
    cache: Path,
    tokenizer_folder: Callable[[str], Path | None],
    progress: Progress,
    site: Site,
    processes: int | None = None,
) -> Driver:
    """The driver of that name; the other parameters are the fields of `Setup`.

    Raises UserError for an unknown name, and where this machine cannot run the driver.
    """
    if name not in DRIVERS:
        raise UserError(f"unknown driver {name!r}; known: {', '.join(DRIVERS)}")
    base = cache / "logs" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folders = (base / f"{number:04}" for number in itertools.count())
    setup = Setup(cache, folders, tokenizer_folder, progress, site, processes)
    driver: Driver = import_module(f"{__name__}.{DRIVERS[name]}").make(setup)
    return driver
