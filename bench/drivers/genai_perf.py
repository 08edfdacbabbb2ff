"""Driver `genai-perf`: NVIDIA's former load generator with the suite's prompts.

Prompts, lengths of answers and their order are the suite's, in a file of payloads. It
cannot keep a schedule (`--fixed-schedule` fails in 0.0.16): an open loop is offered at the
same mean rate at its own, Poisson-distributed times.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import orjson

from bench.drivers.artifacts.entry import Entry
from bench.drivers.artifacts.genai_perf import RECORDS, read_records
from bench.drivers.destinations import base_urls, require_nobody_told_apart
from bench.drivers.driver import Driven
from bench.drivers.measured import drive_result
from bench.drivers.notes import GENAI_PERF
from bench.errors import UserError
from bench.load.drive import Load
from bench.load.outcome import Ending
from bench.processes.guarded import last_lines, run_bounded
from bench.processes.venv import ensure_venv
from bench.progress import Progress
from bench.records import DriverFacts

REQUIREMENTS = Path(__file__).with_name("requirements-genai-perf.txt")
START_AND_END_S = 120.0
NEEDED_GLIBC = (2, 38)


@dataclass(frozen=True, slots=True)
class GenaiPerfDriver:
    """Starts the genai-perf in the folder `programs`, for each load in the next of `folders`."""

    programs: Path
    version: str
    folders: Iterator[Path]
    tokenizer_folder: Callable[[str], Path]
    start_and_end_s: float = START_AND_END_S

    @classmethod
    def installed(
        cls,
        cache: Path,
        folders: Iterator[Path],
        tokenizer_folder: Callable[[str], Path],
        progress: Progress,
    ) -> Self:
        """The driver with a genai-perf under `cache`. Raises UserError if that cannot be had."""
        check_glibc(platform.libc_ver())
        venv = ensure_venv("genai-perf", REQUIREMENTS, cache, progress)
        return cls(venv.folder / "bin", venv.version("genai-perf"), folders, tokenizer_folder)

    def run(self, load: Load, *, drain_timeout_s: float) -> Driven:
        """Send `load`; see `Driver`. It ends nothing by itself, so all are waited for."""
        folder = next(self.folders)
        folder.mkdir(parents=True)
        (folder / "input.jsonl").write_bytes(b"".join(_lines(load)))
        tokenizer = self.tokenizer_folder(load.schedule.requests[0].model).resolve()
        # It starts perf_analyzer by its name.
        command = ["env", f"PATH={self.programs}:/usr/bin:/bin", "genai-perf"]
        command += arguments(load, folder, tokenizer)
        log = folder / "log"
        run_bounded("genai-perf", command, log=log, limit_s=self._limit_s(load, drain_timeout_s))
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
        return Driven(result, DriverFacts("genai-perf", self.version, GENAI_PERF))

    def _limit_s(self, load: Load, drain_timeout_s: float) -> float:
        # A closed loop works off the whole list, which is longer than its window.
        rounds = 1 if load.schedule.concurrency is None else 4
        return load.schedule.duration_s * rounds + drain_timeout_s + self.start_and_end_s


def named(entries: Iterable[Entry], prompts: Sequence[str]) -> list[Entry]:
    """The entries, named by their prompts, with the indexes of the prompts for names.

    Of equal prompts the first that was sent is the first in the list. Those that were sent more
    often than planned are left out.
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
    require_nobody_told_apart("genai-perf", schedule)
    urls = base_urls("genai-perf", load.urls)
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


def _lines(load: Load) -> Iterator[bytes]:
    """The requests as genai-perf reads them; keys that it does not know go into the body."""
    for planned, prompt in zip(load.schedule.requests, load.prompts, strict=True):
        line = {
            "text": prompt,
            "model": planned.model,
            "output_length": planned.output_tokens,
            "min_tokens": planned.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream_options": {"include_usage": True},
        }
        yield orjson.dumps(line) + b"\n"
