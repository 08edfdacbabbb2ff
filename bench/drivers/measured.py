"""From what a tool recorded of a schedule to what a drive yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.completeness import fail_incomplete
from bench.drivers.artifacts.entry import Entry, elapsed_s, instrument
from bench.load.run.outcome import DriveResult, Ending
from bench.records import ErrorKind, PlannedRequest, Sample, Schedule

_NS = 1_000_000_000


def drive_result(
    schedule: Schedule, entries: Sequence[Entry], ending: Ending, *, timed: bool = True
) -> DriveResult:
    """The samples of `schedule`, whose requests the entries name by their index.

    In an open loop time counts from the latest start that lets no request be early. In a
    closed loop, and where the tool is not `timed` by the schedule, a request was due when the
    tool issued it; a closed loop starts none after its window. A request that the tool has no
    record of, although it was due or one behind it in the list has one, was not sent, or not
    answered in time, and is a TIMEOUT.
    """
    by_index = {int(entry.name): entry for entry in entries}
    due = schedule.requests
    if ending is not Ending.COMPLETE:
        due = tuple(one for one in due if one.index in by_index)
    elif schedule.concurrency is not None:
        last = max(by_index, default=-1)
        due = tuple(one for one in due if one.index <= last)
    on_time = timed and schedule.concurrency is None
    samples = _on_time(due, by_index) if on_time else _as_issued(due, by_index)
    if schedule.concurrency is not None:
        samples = tuple(one for one in samples if one.scheduled_s < schedule.duration_s)
    samples = fail_incomplete(samples)
    last_s = elapsed_s(samples)
    if ending is Ending.COMPLETE and schedule.concurrency is not None:
        dry = len(samples) == len(schedule.requests) and last_s < schedule.duration_s
        ending = Ending.RAN_DRY if dry else ending
    return DriveResult(samples, instrument(samples), None, last_s, ending)


def _on_time(due: Sequence[PlannedRequest], entries: Mapping[int, Entry]) -> tuple[Sample, ...]:
    zero_ns = min(
        (
            entries[one.index].issued_ns - round(one.at_s * _NS)
            for one in due
            if one.index in entries
        ),
        default=0,
    )
    return tuple(
        entries[one.index].sample(one, zero_ns, one.at_s) if one.index in entries else _lost(one)
        for one in due
    )


def _as_issued(due: Sequence[PlannedRequest], entries: Mapping[int, Entry]) -> tuple[Sample, ...]:
    zero_ns = min((entry.issued_ns for entry in entries.values()), default=0)
    return tuple(
        entry.sample(one, zero_ns, (entry.issued_ns - zero_ns) / _NS)
        if (entry := entries.get(one.index))
        else _lost(one)
        for one in due
    )


def _lost(planned: PlannedRequest) -> Sample:
    return Sample(
        index=planned.index,
        model=planned.model,
        scheduled_s=planned.at_s,
        sent_s=None,
        first_token_s=None,
        last_token_s=None,
        chunk_s=(),
        wanted_prompt_tokens=planned.prompt_tokens,
        wanted_output_tokens=planned.output_tokens,
        prompt_tokens=None,
        output_tokens=None,
        replica=None,
        status=None,
        error=ErrorKind.TIMEOUT,
        detail="the tool has no record of it: not sent, or not answered in time",
        tenant=planned.tenant,
    )
