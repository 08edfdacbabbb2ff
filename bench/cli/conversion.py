"""From artifacts of aiperf and genai-perf to a trial, or statistics, and their judgement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.analysis.judge import judge
from bench.analysis.judgement import Judgement, Summary
from bench.analysis.metrics import METRICS
from bench.drivers.aiperf import BROKEN_OFF, CONNECTING
from bench.drivers.artifacts.entry import NS_PER_S, elapsed_s, instrument
from bench.drivers.artifacts.summary import ToolRun, read_artifacts
from bench.drivers.genai_perf import NO_FAILURES
from bench.drivers.tools import CLIENT_UNKNOWN
from bench.records import (
    DriverFacts,
    Expectation,
    PlannedRequest,
    Sample,
    ScenarioFacts,
    Trial,
    fail_incomplete,
)
from bench.store import TrialStore, write_latest

SCENARIO = "converted"
ENVIRONMENT = "external"
REPORTED = (
    "ttft_p50_s",
    "ttft_p95_s",
    "tpot_p50_s",
    "e2e_p50_s",
    "e2e_p95_s",
    "throughput_rps",
    "output_tps",
    "goodput_rps",
    "error_rate",
)
# The tools' names for what the metrics here are named after.
_LATENCIES = {
    "ttft": "time_to_first_token",
    "tpot": "inter_token_latency",
    "e2e": "request_latency",
}
_RATES = {
    "throughput_rps": ("request_throughput",),
    "output_tps": ("output_token_throughput",),
    "goodput_rps": ("goodput", "request_goodput"),
    "error_rate": ("request_error_rate",),
}

# Notes of converted runs.
_UNKNOWN_SERVER = "converted from artifacts: what served, and on what, is not known here"
_RECOMPUTED = (
    "metrics are computed again from the recorded times, by the definitions here: they need"
    " not equal the tool's own report"
)
_PROMPTS = "prompt lengths are those that the server counted, chat template included"
_SUMMARY = (
    "only the tool's own statistics are known: its definitions hold, there are no samples,"
    " and the validity of the measurement cannot be checked"
)
_TPOT = (
    "TPOT is the tool's inter token latency: it divides by tokens that the client counted by"
    " encoding the answer again, which differ from the server's count"
)
_SURVIVORS = (
    "latencies are of requests that succeeded, counted from sending: failures and a client"
    " that fell behind are not in them"
)
_OF_RECORDS = (_UNKNOWN_SERVER, _RECOMPUTED, _PROMPTS)
_OF_SUMMARY = (_UNKNOWN_SERVER, _SUMMARY)
_RECORD_NOTES = {
    "aiperf": (*_OF_RECORDS, CONNECTING, BROKEN_OFF, CLIENT_UNKNOWN),
    "genai-perf": (*_OF_RECORDS, NO_FAILURES, CLIENT_UNKNOWN),
}
_SUMMARY_NOTES = {
    "aiperf": (*_OF_SUMMARY, f"{_TPOT} (unless asked to use it)", _SURVIVORS, CONNECTING),
    "genai-perf": (
        *(*_OF_SUMMARY, _TPOT, _SURVIVORS),
        "events that were read at once count as one chunk, with one time",
    ),
}


def convert(folder: Path, arm: str, run_id: str, results: Path) -> tuple[Judgement, Path]:
    """Convert an artifact folder. Returns its judgement, and the file that this is written to.

    If there are records of single requests, a trial of `arm` is stored under `results` as well.
    Raises UserError for a damaged or foreign folder.
    """
    run = read_artifacts(folder)
    if run.entries:
        trial = trial_of(run, arm, run_id)
        TrialStore(results).save(trial)
        judgement = judge([trial])
    else:
        judgement = judgement_of(run, arm)
    path = results / "converted" / f"{run_id}.json"
    tool = {"tool": run.tool, "version": run.version}
    write_latest(path, [judgement], {"Run": run_id, "converted_from": folder.name, **tool})
    return judgement, path


def trial_of(run: ToolRun, arm: str, run_id: str) -> Trial:
    """The recorded requests as one trial; `arm` is its control."""
    entries = run.entries
    zero_ns = min(entry.issued_ns for entry in entries)
    samples = fail_incomplete(tuple(_samples(run, zero_ns)))
    duration_s = elapsed_s(samples)
    answered = sum(entry.answer.failure is None for entry in entries)
    expected = round(run.statistic("request_count", "avg") or 0)
    notes = list(_RECORD_NOTES[run.tool])
    if all(entry.issued_ns == entry.sent_ns for entry in entries):
        notes.append("when requests were due is not recorded: they count from when they were sent")
    if len(run.models) > 1:
        notes.append(f"which model a request went to is not recorded: all as {run.models[0]}")
    if answered < expected:
        notes.append(f"the records hold {answered} of the {expected} answers it reports")
    return Trial(
        run_id=run_id,
        arm=arm,
        role="control",
        environment=ENVIRONMENT,
        scenario=_facts(run, REPORTED),
        models=run.models,
        block=0,
        position=0,
        seed=0,
        schedule_sha256="",
        offered_rps=run.rate_rps,
        concurrency=run.concurrency,
        duration_s=duration_s,
        elapsed_s=duration_s,
        replicas=(),
        samples=samples,
        instrument=instrument(samples),
        cut_short=run.cancelled or answered < expected,
        driver=DriverFacts(run.tool, run.version, tuple(notes)),
    )


def judgement_of(run: ToolRun, arm: str) -> Judgement:
    """A judgement with the tool's own statistics, under the names of the metrics here."""
    values = dict(reported(run))
    count = round(run.statistic("request_count", "avg") or 0)
    missing = ", ".join(name for name in REPORTED if name not in values)
    notes = [*_SUMMARY_NOTES[run.tool], *([f"not reported: {missing}"] if missing else [])]
    return Judgement(
        scenario=_facts(run, tuple(values)),
        models=run.models,
        environment=ENVIRONMENT,
        control=arm,
        treatment=None,
        ratios={0: None},
        summaries=tuple(
            Summary("control", arm, name, METRICS[name].unit, value, count)
            for name, value in values.items()
        ),
        invalid_reasons=("it was cancelled",) if run.cancelled else (),
        notes=tuple(f"driver {run.tool}: {note}" for note in notes),
    )


def _facts(run: ToolRun, metrics: tuple[str, ...]) -> ScenarioFacts:
    return ScenarioFacts(
        name=SCENARIO,
        primary=metrics[0],
        metrics=metrics,
        expect=Expectation.NOT_WORSE,
        slos=dict.fromkeys(run.models, run.slo),
        description=f"Converted from artifacts of {run.tool}.",
    )


def _samples(run: ToolRun, zero_ns: int) -> Iterator[Sample]:
    for index, entry in enumerate(run.entries):
        planned = PlannedRequest(
            index=index,
            at_s=(entry.issued_ns - zero_ns) / NS_PER_S,
            model=run.models[0],
            prompt_tokens=entry.answer.prompt_tokens or 0,
            output_tokens=run.output_tokens or entry.answer.output_tokens or 0,
            prompt_seed=0,
        )
        yield entry.sample(planned, zero_ns, planned.at_s)


def reported(run: ToolRun) -> Iterator[tuple[str, float]]:
    """The names and values of the metrics that the tool reports, in the units used here."""
    for name in REPORTED:
        quantity, _, rest = name.partition("_")
        if quantity in _LATENCIES:
            value = run.statistic(_LATENCIES[quantity], rest.removesuffix("_s"))
            found = [] if value is None else [value]
        else:
            values = (run.statistic(metric, "avg") for metric in _RATES[name])
            found = [value for value in values if value is not None]
        if found:
            yield name, found[0]
