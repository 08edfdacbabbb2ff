"""From the results of another load generator to a trial, or statistics, and their judgement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.analysis.judge import judge
from bench.analysis.judgement import Judgement, Summary
from bench.analysis.metrics import METRICS
from bench.drivers.aiperf import BROKEN_OFF, CONNECTING
from bench.drivers.artifacts.entry import NS_PER_S, elapsed_s, instrument
from bench.drivers.artifacts.reading import read_runs
from bench.drivers.artifacts.run import ToolRun
from bench.drivers.genai_perf import NO_FAILURES
from bench.drivers.tools import CLIENT_UNKNOWN
from bench.errors import UserError
from bench.records import (
    DriverFacts,
    Expectation,
    PlannedRequest,
    Role,
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
# Notes of converted runs.
_UNKNOWN_SERVER = "measured by another tool: what served, and on what, is not known here"
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
_FIRST_CHUNK = (
    "TTFT ends with the first chunk of any kind, a role without text included, and E2E with the"
    " chunk of the finish reason"
)
_RECORD_NOTES = {
    "aiperf": (CONNECTING, BROKEN_OFF),
    "genai-perf": (NO_FAILURES,),
    "vllm bench serve": (_FIRST_CHUNK,),
    "guidellm": ("only the first and the last token of a request are recorded",),
}
_SUMMARY_NOTES = {
    "aiperf": (f"{_TPOT} (unless asked to use it)", CONNECTING),
    "genai-perf": (_TPOT, "events that were read at once count as one chunk, with one time"),
    "vllm bench serve": (_FIRST_CHUNK,),
    "sglang.bench_serving": ("E2E ends with the last event of the stream, [DONE] included",),
    "guidellm": (
        "TPOT is its inter token latency, whose mean and percentiles are weighted by tokens; what"
        " it calls time per output token includes the first token, and is left out",
    ),
    "inference-perf": (
        "tokens of one chunk have one time, so that ITL is 0 between them; TPOT divides by tokens"
        " that the client counted, unless asked to use the server's count",
    ),
}


def record_notes(tool: str) -> tuple[str, ...]:
    """What holds for metrics that are computed from the requests that a tool recorded."""
    return (_UNKNOWN_SERVER, _RECOMPUTED, *_RECORD_NOTES.get(tool, ()), CLIENT_UNKNOWN)


def summary_notes(tool: str) -> tuple[str, ...]:
    """What holds for statistics that a tool has computed itself."""
    return (_UNKNOWN_SERVER, _SUMMARY, *_SUMMARY_NOTES.get(tool, ()), _SURVIVORS)


def convert(folder: Path, arm: str, run_id: str, results: Path) -> tuple[Judgement, Path]:
    """Convert a result. Returns its judgement, and the file that this is written to.

    If there are records of single requests, a trial of `arm` is stored under `results` as well.
    Raises UserError for damaged or foreign files, and for more than one run.
    """
    runs = read_runs(folder).runs
    if len(runs) > 1:
        shown = ", ".join(dict.fromkeys(str(run.path) for run in runs[:3]))
        raise UserError(f"{folder} holds {len(runs)} runs ({shown}, ...); give one of them")
    (run,) = runs
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


def trial_of(run: ToolRun, arm: str, run_id: str, role: Role = "control", block: int = 0) -> Trial:
    """The recorded requests as one trial."""
    entries = run.entries
    zero_ns = min(entry.issued_ns for entry in entries)
    samples = fail_incomplete(tuple(_samples(run, zero_ns)))
    duration_s = elapsed_s(samples)
    answered = sum(entry.answer.failure is None for entry in entries)
    notes = [*record_notes(run.tool), _PROMPTS]
    if all(entry.issued_ns == entry.sent_ns for entry in entries):
        notes.append("when requests were due is not recorded: they count from when they were sent")
    if len(run.models) > 1:
        notes.append(f"which model a request went to is not recorded: all as {run.models[0]}")
    if answered < run.requests:
        notes.append(f"the records hold {answered} of the {run.requests} answers it reports")
    return Trial(
        run_id=run_id,
        arm=arm,
        role=role,
        environment=ENVIRONMENT,
        scenario=_facts(run, REPORTED),
        models=run.models,
        block=block,
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
        cut_short=run.cancelled or answered < run.requests,
        driver=DriverFacts(run.tool, run.version, tuple(notes)),
    )


def judgement_of(run: ToolRun, arm: str) -> Judgement:
    """A judgement with the tool's own statistics, under the names of the metrics here."""
    values = {name: run.values[name] for name in REPORTED if name in run.values}
    missing = ", ".join(name for name in REPORTED if name not in values)
    notes = [*summary_notes(run.tool), *([f"not reported: {missing}"] if missing else [])]
    return Judgement(
        scenario=_facts(run, tuple(values)),
        models=run.models,
        environment=ENVIRONMENT,
        control=arm,
        treatment=None,
        ratios={0: None},
        summaries=tuple(
            Summary("control", arm, name, METRICS[name].unit, value, run.requests)
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
        description=f"Converted from a result of {run.tool}.",
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
