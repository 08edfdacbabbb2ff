"""Driver `genai-perf`: NVIDIA's former load generator, with the suite's prompts in their order.

It cannot keep a schedule (`--fixed-schedule` fails in 0.0.16): an open loop is offered at the
same mean rate at its own, Poisson-distributed times.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bench.drivers.artifacts.entry import Entry
from bench.drivers.artifacts.genai_perf import RECORDS, read_records
from bench.drivers.driver import Setup
from bench.drivers.tools import (
    CLIENT_UNKNOWN,
    REPLICA_UNKNOWN,
    ToolDriver,
    base_urls,
    drive_result,
)
from bench.errors import UserError
from bench.load.run.drive import DriveResult, Ending, Load
from bench.processes.guarded import last_lines, run_bounded
from bench.processes.venv import ensure_venv
from bench.records import DriverFacts, PlannedRequest

REQUIREMENTS = Path(__file__).with_name("requirements-genai-perf.txt")
NEEDED_GLIBC = (2, 38)

# Notes say what differs from the built-in driver, in version 0.0.16.
NO_FAILURES = (
    "the first request that fails ends it, and one whose stream breaks off hangs it: there"
    " are no numbers then, in place of an error rate"
)
NOTES = (
    "an open loop is offered at the same mean rate, but at Poisson-distributed times of its"
    " own: scheduled metrics count from sending, and hide what a late client hides",
    "a closed loop works off the whole list; requests sent after the window, and prompts sent"
    " again when the list was over, are left out",
    NO_FAILURES,
    REPLICA_UNKNOWN,
    CLIENT_UNKNOWN,
)


class GenaiPerfDriver(ToolDriver):
    """genai-perf; `program` is the folder with it and perf_analyzer."""

    __slots__ = ()

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        """Send `load`; see `Driver`. It ends nothing by itself, so all are waited for."""
        folder, tokenizer = self.prepare(load, _line)
        # It starts perf_analyzer by its name.
        command = ["env", f"PATH={self.program}:/usr/bin:/bin", "genai-perf"]
        command += arguments(load, folder, tokenizer)
        # A closed loop works off the whole list, which is longer than its window.
        rounds = 1 if load.schedule.concurrency is None else 4
        limit_s = load.schedule.duration_s * rounds + drain_timeout_s + self.start_and_end_s
        log = folder / "log"
        run_bounded("genai-perf", command, log=log, limit_s=limit_s)
        # Not its exit code: its own reading fails where tokens and usage arrive together.
        found = sorted((folder / "artifacts").rglob(RECORDS))
        if not found:
            said = last_lines(log) or "it said nothing"
            raise UserError(
                f"genai-perf measured nothing, as it does after one failed request: {said};"
                f" see {log}"
            )
        entries = named(read_records(found[0]), load.prompts)
        result = drive_result(load.schedule, entries, Ending.COMPLETE, timed=False)
        return replace(result, driver=DriverFacts("genai-perf", self.version, NOTES))


def make(setup: Setup) -> GenaiPerfDriver:
    """The driver, with genai-perf installed. Raises UserError if that cannot be had."""
    check_glibc(platform.libc_ver())
    venv = ensure_venv("genai-perf", REQUIREMENTS, setup.cache, setup.progress)
    programs, version = venv.folder / "bin", venv.version("genai-perf")
    return GenaiPerfDriver(programs, version, setup.folders, setup.tokenizer_folder)


def named(entries: Iterable[Entry], prompts: Sequence[str]) -> list[Entry]:
    """The entries, whose names are their prompts, with the indexes of these prompts as names.

    Equal prompts are taken in the order of the list. A prompt that was sent more often than
    planned is left out.
    """
    waiting: dict[str, list[int]] = {}
    for index, prompt in reversed(list(enumerate(prompts))):
        waiting.setdefault(prompt, []).append(index)
    return [
        replace(one, name=str(indexes.pop())) for one in entries if (indexes := waiting[one.name])
    ]


def check_glibc(seen: tuple[str, str]) -> None:
    """Raise UserError where perf_analyzer does not run; `seen` is (library, version)."""
    library, version = seen
    parts = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if library != "glibc" or parts < NEEDED_GLIBC:
        raise UserError(
            "genai-perf needs glibc 2.38 (Ubuntu 24.04, Debian 13), this is"
            f" {library or 'another C library'} {version}; take --driver aiperf, or run it in a"
            " container: docs/reference/drivers.md"
        )


def arguments(load: Load, folder: Path, tokenizer: Path) -> list[str]:
    """The options for `load`, whose requests are in `input.jsonl`."""
    schedule = load.schedule
    urls = base_urls("genai-perf", load)
    if len(urls) > 1:
        raise UserError(
            f"driver genai-perf sends to one base URL, this load has {len(urls)};"
            " measure this scenario with --driver builtin"
        )
    if schedule.concurrency is not None:
        pace = ["--concurrency", str(schedule.concurrency)]
    else:
        pace = ["--request-rate", f"{len(schedule.requests) / schedule.duration_s:g}"]
    return [
        "profile",
        *("--model", schedule.requests[0].model),
        *("--endpoint-type", "chat"),
        "--streaming",
        *("--url", urlsplit(urls[0]).netloc),
        *("--tokenizer", str(tokenizer)),
        *("--input-file", f"payload:{folder / 'input.jsonl'}"),
        *("--artifact-dir", str(folder / "artifacts")),
        *pace,
        # For perf_analyzer: with several threads each takes every n-th line, again and again.
        "--",
        *("--max-threads", "1"),
        *("--request-count", str(len(schedule.requests))),
        *("--stability-percentage", "999"),
        *(["--request-distribution", "poisson"] if schedule.concurrency is None else []),
    ]


def _line(planned: PlannedRequest, prompt: str) -> dict[str, object]:
    """A request as genai-perf reads it; keys that it does not know go into the body."""
    return {
        "text": prompt,
        "model": planned.model,
        "output_length": planned.output_tokens,
        "min_tokens": planned.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    }
