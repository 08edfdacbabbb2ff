"""Driver `aiperf`: NVIDIA's load generator with the schedule and prompts of the suite.

It reads both from a file: every prompt, the length of its answer and, in an open loop, when it
is due. So both arms get the same requests from it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.drivers.artifacts.aiperf import RECORDS, read_records
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

REQUIREMENTS = Path(__file__).with_name("requirements-aiperf.txt")
# With these set it takes a tokenizer's folder for the name of a repository.
_ONLINE = ("env", "--unset=HF_HUB_OFFLINE", "--unset=TRANSFORMERS_OFFLINE")

# Notes say what differs from the built-in driver, in version 0.13.0.
CONNECTING = (
    "a request counts as sent before its connection is made: TTFT and E2E include that where"
    " a connection is new"
)
BROKEN_OFF = (
    "only token usage distinguishes whole answers from those that broke off;"
    " requests that hang are not recorded at all and count as not sent"
)
NOTES = (
    CONNECTING,
    "times are due to the millisecond, and counted from the earliest instant at which no"
    " request was early",
    BROKEN_OFF,
    "server-sent events end with a blank line of LF or of CRLF for it, not of CR",
    REPLICA_UNKNOWN,
    CLIENT_UNKNOWN,
)


class AiperfDriver(ToolDriver):
    """aiperf; `program` is its command."""

    __slots__ = ()

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        """Send `load`; see `Driver`. Ctrl-C keeps what aiperf has written by then."""
        folder, tokenizer = self.prepare(load, partial(_line, load))
        log, records = folder / "log", folder / RECORDS
        options = arguments(load, folder, tokenizer, drain_timeout_s)
        limit_s = load.schedule.duration_s + drain_timeout_s + self.start_and_end_s
        ending = Ending.COMPLETE
        try:
            run_bounded("aiperf", [*_ONLINE, str(self.program), *options], log=log, limit_s=limit_s)
        except KeyboardInterrupt:
            ending = Ending.INTERRUPTED
        # Its exit code does not tell: it is not 0 either where requests have failed.
        if ending is Ending.COMPLETE and not records.exists():
            raise UserError(f"aiperf measured nothing: {_reason(log)}; see {log}")
        entries = read_records(records) if records.exists() else ()
        result = drive_result(load.schedule, entries, ending)
        return replace(result, driver=DriverFacts("aiperf", self.version, NOTES))


def make(setup: Setup) -> AiperfDriver:
    """The driver, with aiperf installed. Raises UserError if that cannot be had."""
    venv = ensure_venv("aiperf", REQUIREMENTS, setup.cache, setup.progress)
    program, version = venv.folder / "bin" / "aiperf", venv.version("aiperf")
    return AiperfDriver(program, version, setup.folders, setup.tokenizer_folder)


def arguments(load: Load, folder: Path, tokenizer: Path, drain_timeout_s: float) -> list[str]:
    """The options for `load`, whose requests are in `input.jsonl`; results go to `folder`."""
    schedule = load.schedule
    urls = base_urls("aiperf", load)
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


def _line(load: Load, planned: PlannedRequest, prompt: str) -> dict[str, object]:
    """A request as aiperf reads it; what is in `extra` goes into the body as it is."""
    line: dict[str, object] = {
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
    return line


def _reason(log: Path) -> str:
    """The error in the frame that aiperf prints at its end, or its last line."""
    lines = last_lines(log, 60).splitlines()
    reasons = [line for line in lines if "Reason:" in line]
    return (reasons or lines or ["it said nothing"])[-1].strip(" │•")[:200]
