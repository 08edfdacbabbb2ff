"""From what a tool recorded of a schedule to what a drive yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.completeness import fail_incomplete
from bench.drivers.artifacts.entry import Entry, elapsed_s, instrument
from bench.load.outcome import DriveResult, Ending
from bench.records import ErrorKind, PlannedRequest, Sample, Schedule

_NS = 1_000_000_000


def drive_result(
    schedule: Schedule, entries: Sequence[Entry], ending: Ending, *, timed: bool = True
) -> DriveResult:
    """The samples of `schedule`, whose requests the entries name by their index.

    In an open loop time counts from the latest start that lets no request be early; a
    request that the tool has no record of was not sent, or not answered in time, and is a
    TIMEOUT. In a closed loop, and where the tool is not `timed` by the schedule, a request
    was due when the tool issued it; a closed loop starts none after its window.
    """
    by_index = {int(entry.name): entry for entry in entries}
    if timed and schedule.concurrency is None:
        samples = _on_time(schedule, by_index, complete=ending is Ending.COMPLETE)
    else:
        samples = _as_issued(schedule, by_index)
    samples = fail_incomplete(samples)
    last_s = elapsed_s(samples)
    if ending is Ending.COMPLETE and schedule.concurrency is not None:
        dry = len(samples) == len(schedule.requests) and last_s < schedule.duration_s
        ending = Ending.RAN_DRY if dry else ending
    return DriveResult(samples, instrument(samples), None, last_s, ending)


def _on_time(
    schedule: Schedule, entries: Mapping[int, Entry], *, complete: bool
) -> tuple[Sample, ...]:
    due_ns = {one.index: round(one.at_s * _NS) for one in schedule.requests}
    zero_ns = min((entry.issued_ns - due_ns[index] for index, entry in entries.items()), default=0)
    return tuple(
        entries[one.index].sample(one, zero_ns, one.at_s) if one.index in entries else _lost(one)
        for one in schedule.requests
        if complete or one.index in entries
    )


def _as_issued(schedule: Schedule, entries: Mapping[int, Entry]) -> tuple[Sample, ...]:
    zero_ns = min((entry.issued_ns for entry in entries.values()), default=0)
    samples = (
        entry.sample(one, zero_ns, (entry.issued_ns - zero_ns) / _NS)
        for one in schedule.requests
        if (entry := entries.get(one.index))
    )
    if schedule.concurrency is None:
        return tuple(samples)
    return tuple(sample for sample in samples if sample.scheduled_s < schedule.duration_s)


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
