"""Driver `aiperf`: NVIDIA's load generator with the schedule and prompts of the suite.

It reads both from a file: every prompt, its length of answer and, in an open loop, when it
is due. So both arms get the same work from it as from the built-in driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson

from bench.drivers.artifacts.aiperf import RECORDS, read_records
from bench.drivers.destinations import base_urls, require_nobody_told_apart
from bench.drivers.driver import Driven
from bench.drivers.measured import drive_result
from bench.drivers.notes import AIPERF
from bench.errors import UserError
from bench.load.drive import Load
from bench.load.outcome import Ending
from bench.processes.guarded import last_lines, run_bounded
from bench.processes.venv import ensure_venv
from bench.progress import Progress
from bench.records import DriverFacts

REQUIREMENTS = Path(__file__).with_name("requirements-aiperf.txt")
# It starts some ten processes, and writes its report when the load is over.
START_AND_END_S = 120.0
# With these set it takes a tokenizer's folder for the name of a repository.
_ONLINE = ("env", "--unset=HF_HUB_OFFLINE", "--unset=TRANSFORMERS_OFFLINE")


@dataclass(frozen=True, slots=True)
class AiperfDriver:
    """Starts `program` for each load, in the next one of `folders`."""

    program: Path
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
        """The driver with an aiperf under `cache`. Raises UserError if that cannot be had."""
        venv = ensure_venv("aiperf", REQUIREMENTS, cache, progress)
        program = venv.folder / "bin" / "aiperf"
        return cls(program, venv.version("aiperf"), folders, tokenizer_folder)

    def run(self, load: Load, *, drain_timeout_s: float) -> Driven:
        """Send `load`; see `Driver`. Ctrl-C keeps what aiperf has written by then."""
        folder = next(self.folders)
        folder.mkdir(parents=True)
        log, records = folder / "log", folder / RECORDS
        ending = Ending.COMPLETE
        try:
            self._send(load, folder, log, drain_timeout_s)
        except KeyboardInterrupt:
            ending = Ending.INTERRUPTED
        # Not its exit code: that tells of failed requests, too.
        if ending is Ending.COMPLETE and not records.exists():
            raise UserError(f"aiperf measured nothing: {_reason(log)}; see {log}")
        entries = read_records(records) if records.exists() else ()
        result = drive_result(load.schedule, entries, ending)
        return Driven(result, DriverFacts("aiperf", self.version, AIPERF))

    def _send(self, load: Load, folder: Path, log: Path, drain_timeout_s: float) -> None:
        (folder / "input.jsonl").write_bytes(b"".join(_lines(load)))
        tokenizer = self.tokenizer_folder(load.schedule.requests[0].model).resolve()
        options = arguments(load, folder, tokenizer, drain_timeout_s)
        limit_s = load.schedule.duration_s + drain_timeout_s + self.start_and_end_s
        run_bounded("aiperf", [*_ONLINE, str(self.program), *options], log=log, limit_s=limit_s)


def arguments(load: Load, folder: Path, tokenizer: Path, drain_timeout_s: float) -> list[str]:
    """The options for `load`, whose requests are in `input.jsonl`; results go to `folder`."""
    schedule = load.schedule
    require_nobody_told_apart("aiperf", schedule)
    urls = base_urls("aiperf", load.urls)
    models = dict.fromkeys(request.model for request in schedule.requests)
    common = {
        "--model": ",".join(models),
        "--endpoint-type": "chat",
        "--input-file": str(folder / "input.jsonl"),
        "--custom-dataset-type": "single_turn",
        "--dataset-sampling-strategy": "sequential",
        "--tokenizer": str(tokenizer),
        "--artifact-dir": str(folder),
        "--export-level": "records",
        "--benchmark-duration": f"{schedule.duration_s:g}",
        "--benchmark-grace-period": f"{drain_timeout_s:g}",
        "--ui": "none",
    }
    if schedule.concurrency is not None:
        common["--concurrency"] = str(schedule.concurrency)
        common["--request-count"] = str(len(schedule.requests))
    flags = [
        "--streaming",
        # Else it counts the tokens itself, by encoding the text of the answer again.
        "--use-server-token-count",
        "--use-legacy-max-tokens",
        "--no-gpu-telemetry",
        "--no-server-metrics",
        *(["--fixed-schedule"] if schedule.concurrency is None else []),
    ]
    places = [part for url in urls for part in ("--url", url)]
    options = [part for option in common.items() for part in option]
    return ["profile", *places, *options, *flags]


def _lines(load: Load) -> Iterator[bytes]:
    """The requests as aiperf reads them; what is in `extra` goes into the body as it is."""
    for planned, prompt in zip(load.schedule.requests, load.prompts, strict=True):
        line = {
            "session_id": str(planned.index),
            "text": prompt,
            "output_length": planned.output_tokens,
            "extra": {
                "model": planned.model,
                "min_tokens": planned.output_tokens,
                "ignore_eos": True,
                "temperature": 0,
            },
        }
        if load.schedule.concurrency is None:
            line["timestamp"] = planned.at_s * 1000
        yield orjson.dumps(line) + b"\n"


def _reason(log: Path) -> str:
    """The error that aiperf shows in a frame at its end, or its last line."""
    lines = last_lines(log, 60).splitlines()
    reasons = [line for line in lines if "Reason:" in line]
    return (reasons or lines or ["it said nothing"])[-1].strip(" │•")[:200]
