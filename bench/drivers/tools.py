"""What drivers that start a tool have in common: its input, its run, and its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.drivers.artifacts.entry import NS_PER_S, Entry, elapsed_s, instrument
from bench.errors import UserError
from bench.load.client.answer import Answer
from bench.load.client.exchange import Failure
from bench.load.run.drive import DriveResult, Ending, Load
from bench.records import ErrorKind, PlannedRequest, Sample, Schedule, fail_incomplete

# Notes of more than one tool.
CLIENT_UNKNOWN = (
    "dispatch lag is by the tool's own account; event loop lag and client CPU are not known,"
    " so no check of validity rests on them"
)
REPLICA_UNKNOWN = "which replica answered is not recorded"
_NO_RECORD = Answer(
    failure=Failure(
        ErrorKind.TIMEOUT, "the tool has no record of it: not sent, or not answered in time"
    )
)


@dataclass(frozen=True, slots=True)
class ToolDriver:
    """Starts a tool for each load, in the next one of `folders`.

    `program` is the tool, or the folder with its programs. Beside the window and the drain it
    gets `start_and_end_s` to start its processes and to write its report.
    """

    program: Path
    version: str
    folders: Iterator[Path]
    tokenizer_folder: Callable[[str], Path | None]
    start_and_end_s: float = 120.0

    def prepare(
        self, load: Load, request: Callable[[PlannedRequest, str], Mapping[str, object]]
    ) -> tuple[Path, Path]:
        """Write `input.jsonl`, with a line by `request` for each planned request and its prompt.

        Returns the folder that has it, and the folder of the tokenizer.
        """
        folder = next(self.folders)
        folder.mkdir(parents=True)
        pairs = zip(load.schedule.requests, load.prompts, strict=True)
        lines = (orjson.dumps(request(*pair)) + b"\n" for pair in pairs)
        (folder / "input.jsonl").write_bytes(b"".join(lines))
        model = load.schedule.requests[0].model
        tokenizer = self.tokenizer_folder(model)
        if tokenizer is None:
            raise UserError(f"no tokenizer of {model} is known, which this driver needs")
        return folder, tokenizer.resolve()


def base_urls(driver: str, load: Load) -> tuple[str, ...]:
    """The base URLs of a tool that sends to each in turn, with one set of headers.

    Raises UserError where single requests go elsewhere, or are sent for tenants.
    """
    urls = load.urls
    distinct = tuple(dict.fromkeys(urls))
    cannot = ""
    if any(request.tenant for request in load.schedule.requests):
        cannot = "distinguish tenants"
    elif any(url != distinct[index % len(distinct)] for index, url in enumerate(urls)):
        cannot = "bypass the balancer with single requests"
    if cannot:
        raise UserError(
            f"driver {driver} cannot {cannot};"
            " measure this scenario with --driver builtin or openai"
        )
    return distinct


def drive_result(
    schedule: Schedule, entries: Sequence[Entry], ending: Ending, *, timed: bool = True
) -> DriveResult:
    """The samples of `schedule`, whose requests the entries name by their index.

    In an open loop time counts from the latest start at which no request is early. In a
    closed loop, and where the tool is not `timed` by the schedule, a request was due when the
    tool issued it; a closed loop starts none after its window. A request without a record is a
    TIMEOUT if it was due, or if a later one has a record.
    """
    closed = schedule.concurrency is not None
    by_index = {int(entry.name): entry for entry in entries}
    due = schedule.requests
    if ending is not Ending.COMPLETE:
        due = tuple(one for one in due if one.index in by_index)
    elif closed:
        last = max(by_index, default=-1)
        due = tuple(one for one in due if one.index <= last)
    found = _samples(due, by_index, on_time=timed and not closed)
    samples = fail_incomplete(
        [one for one in found if not closed or one.scheduled_s < schedule.duration_s]
    )
    last_s = elapsed_s(samples)
    if ending is Ending.COMPLETE and closed:
        dry = len(samples) == len(schedule.requests) and last_s < schedule.duration_s
        ending = Ending.RAN_DRY if dry else ending
    return DriveResult(samples, instrument(samples), None, last_s, ending)


def _samples(
    due: Sequence[PlannedRequest], entries: Mapping[int, Entry], *, on_time: bool
) -> Iterator[Sample]:
    """The sample of each request, due by the schedule if `on_time`, else when it was issued."""
    issued_ns = [entry.issued_ns for entry in entries.values()]
    if on_time:
        known = ((one, entries[one.index]) for one in due if one.index in entries)
        issued_ns = [entry.issued_ns - round(one.at_s * NS_PER_S) for one, entry in known]
    zero_ns = min(issued_ns, default=0)
    for one in due:
        if entry := entries.get(one.index):
            since_zero_s = (entry.issued_ns - zero_ns) / NS_PER_S
            yield entry.sample(one, zero_ns, one.at_s if on_time else since_zero_s)
        else:
            yield _NO_RECORD.sample(one, scheduled_s=one.at_s)
