"""`python -m validation soak`: both balancers under load for hours, while engines fail.

Those of baseline and managed run in front of the same replicas, which are killed, stopped, slowed,
restarted, and joined by one that answers garbage. At the end every request is accounted for, no
balancer has grown, and every replica serves again; else the exit code is 1.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.config.topology import load_topology
from bench.console import INTERRUPTED, log_folder
from bench.environments.balancers import Balancer, Balancers
from bench.errors import UserError
from bench.load.plan.schedule import plan_closed_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import DriveResult, Ending, Load, run_together
from bench.processes.machine import hold_machine
from bench.processes.ports import free_ports
from bench.progress import PlainProgress, Progress
from bench.records import Sample
from validation import harness
from validation.harness import ROOT
from validation.soak.accounts import (
    Reading,
    counted,
    leaks,
    read,
    statuses,
    unaccounted,
    unexplained,
)
from validation.soak.faults import KINDS, Faults
from validation.soak.replicas import Upstream, upstreams

ARMS = ("baseline", "managed")
# A replica that hangs for longer fails its requests.
TIMES = ("--first-byte-timeout", "10", "--stall-timeout", "5")
DRAIN_S = 60.0
PROMPT_TOKENS, ANSWER_TOKENS = 16, 24
_FIRST_PORT = 18200
_LONGEST_FAULT_S = 20.0
_SLICE_S = 10.0
_LEAST_SLICES = 12
# A replica that has failed is tried again after 30 s at most.
_BACK_TIMEOUT_S = 90.0
_MOST_PER_S = 400
_RESULTS = {
    Ending.COMPLETE: "nothing was lost or leaked, and every replica serves again",
    Ending.INTERRUPTED: "interrupted: whether anything was lost or leaked is not known",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    harness.add_counts(
        parser,
        ("minutes", 120, "how long"),
        ("seed", 1, "seed of the faults"),
        ("workers", 2, "processes that serve clients, of each balancer"),
        ("concurrency", 16, "requests at once, to each balancer"),
    )
    parser.add_argument("--model", default="tiny-llama", metavar="NAME")
    parser.add_argument(
        "--upstreams",
        choices=("engines", "scripted"),
        default="engines",
        metavar="KIND",
        help="engines, or scripted: servers in their place, which show less (default: %(default)s)",
    )


@dataclass(slots=True)
class Account:
    """What is known of a balancer."""

    balancer: Balancer
    sent: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    readings: list[Reading] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def record(self) -> dict[str, Any]:
        """What is written of it."""
        return {
            "answered": self.answered,
            "failures": self.failures,
            "statuses": self.sent,
            "served": self.served,
            "readings": self.readings,
        }

    def add(self, samples: Sequence[Sample]) -> None:
        """Count requests that have ended."""
        self.sent += statuses(samples)
        self.answered += sum(one.ok for one in samples)
        self.failures += Counter(str(one.error) for one in samples if one.error)
        self.served += Counter(one.replica for one in samples if one.ok and one.replica)
        self.problems += unexplained(self.balancer.name, samples)

    def ask(self, path: str) -> httpx.Response:
        """What the balancer says there. Raises UserError if it does not."""
        try:
            return httpx.get(self.balancer.url + path, timeout=30.0, trust_env=False)
        except httpx.HTTPError as error:
            self.balancer.require_alive()
            raise UserError(f"{self.balancer.name} does not answer {path}: {error}") from error

    def look(self) -> None:
        """Take a reading; nothing is under way. Raises UserError if the balancer has died."""
        pid = self.balancer.process.command_pid
        self.balancer.require_alive()
        # A process that has just ended is started again, and its counts are missed.
        with suppress(psutil.Error, OSError):
            if pid is not None:
                self.readings.append(read(pid))


@dataclass(slots=True)
class Outcome:
    """What a soak has found; `lasted_s` is without the starts."""

    accounts: list[Account] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    ended: Ending = Ending.COMPLETE
    problems: list[str] = field(default_factory=list)
    lasted_s: float = 0.0


def soak(options: argparse.Namespace, output: Path = ROOT / "results" / "soak.json") -> int:
    """Run for the time that is given, print what was found, write it to `output` (JSON).

    Returns 0 if nothing was lost or leaked, 1 if something was, and 130 after Ctrl-C. Raises
    UserError where it cannot begin.
    """
    logs, itself = log_folder(ROOT, "soak"), psutil.Process()
    before = {one.pid for one in itself.children(recursive=True)}
    found = _run(options, logs, PlainProgress(sys.stderr))
    left = {one.pid for one in itself.children(recursive=True)} - before
    problems = [*found.problems, *([f"processes are left: {sorted(left)}"] if left else [])]
    asked = {
        name: getattr(options, name) for name in ("upstreams", "seed", "workers", "concurrency")
    }
    record = {
        **harness.machine_facts({}),
        **asked,
        "lasted_s": found.lasted_s,
        "faults": found.faults,
        "ended": found.ended,
        "problems": problems,
        "balancers": {one.balancer.name: one.record for one in found.accounts},
    }
    harness.keep(output, record)
    print("\n".join(_lines(found)))
    print("\n".join(f"PROBLEM: {one}" for one in dict.fromkeys(problems)) or _RESULTS[found.ended])
    print(f"results: {output}; logs: {logs}")
    if found.ended is Ending.INTERRUPTED:
        return INTERRUPTED
    return 1 if problems else 0


def _run(options: argparse.Namespace, logs: Path, progress: PlainProgress) -> Outcome:
    """Start everything, send load while faults are injected and after that, and end everything."""
    found = Outcome()
    with ExitStack() as running:
        if options.upstreams == "engines":
            held = hold_machine("python -m validation soak", progress, math.inf)
            running.enter_context(held)
        made, garbage = running.enter_context(
            upstreams(options.upstreams, options.model, logs, options.seed, progress)
        )
        balancers = Balancers(logs, progress)
        running.callback(balancers.stop)
        garbage.start()  # balancers are ready when they know all that they are given
        balancers.serve([one.replica for one in (*made, garbage)])
        found.accounts += map(Account, _start(balancers, options.workers))
        garbage.stop()
        load = _Slices(options, found.accounts, made, progress)
        longest_s = min(_LONGEST_FAULT_S, 60 * options.minutes / 10)
        faults = Faults(made, garbage, longest_s, options.seed, progress)
        began_s = time.monotonic()
        try:
            faults.start()
            found.ended = load.until(began_s + 60 * options.minutes, faults)
            if found.ended is not Ending.INTERRUPTED:
                with progress.step("undoing the last fault"):
                    faults.end()
                found.ended = load.after_faults()
        except UserError as error:  # a balancer has died: that is what was looked for
            found.problems.append(str(error))
        except KeyboardInterrupt:
            found.ended = Ending.INTERRUPTED
        finally:
            faults.abandon()
        found.lasted_s, found.faults = time.monotonic() - began_s, faults.done
        found.problems += filter(None, [faults.failed])
        if found.ended is not Ending.INTERRUPTED:
            found.problems += _wrong(found.accounts, options.concurrency * (len(made) + 1))
    return found


def _start(balancers: Balancers, workers: int) -> Iterator[Balancer]:
    topology, ports = load_topology(), free_ports(_FIRST_PORT, ())
    for arm in map(topology.arm, ARMS):
        options = (*arm.options, "--workers", str(workers), *TIMES)
        balancers.urls(replace(arm, port=next(ports), options=options), 1)
    yield from balancers.running


class _Slices:
    """Load on all balancers, slice by slice."""

    def __init__(
        self,
        options: argparse.Namespace,
        accounts: Sequence[Account],
        made: Sequence[Upstream],
        progress: Progress,
    ) -> None:
        self._concurrency: int = options.concurrency
        self._seed: int = options.seed
        self._slice_s = min(_SLICE_S, 60 * options.minutes / _LEAST_SLICES)
        self._accounts = accounts
        self._replicas = [one.replica for one in made]
        self._progress = progress
        self._slices = 0
        self._began_s = time.monotonic()

    def until(self, end_s: float, faults: Faults) -> Ending:
        """Send load until then, or until a fault could not be undone."""
        while (left_s := end_s - time.monotonic()) > 0 and not faults.failed:
            results = self._slice(min(self._slice_s, left_s))
            if any(one.ending is Ending.INTERRUPTED for one in results):
                return Ending.INTERRUPTED
            self._note(faults.now)
        return Ending.COMPLETE

    def after_faults(self) -> Ending:
        """Send load once no replica fails any more: nothing may fail, and each has to serve."""
        self._await_back()
        served = [Counter(one.served) for one in self._accounts]
        deadline_s = time.monotonic() + _BACK_TIMEOUT_S
        while True:
            results = self._slice(self._slice_s)
            if any(one.ending is Ending.INTERRUPTED for one in results):
                return Ending.INTERRUPTED
            self._note("no fault any more")
            waiting = False
            for account, before, result in zip(self._accounts, served, results, strict=True):
                failed = Counter(str(one.error) for one in result.samples if one.error)
                if failed:
                    account.problems.append(
                        f"{account.balancer.name}: {failed.total()} requests failed after the last"
                        f" fault ({', '.join(failed)})"
                    )
                idle = [
                    one.name
                    for one in self._replicas
                    if account.served[_authority(one.url)] == before[_authority(one.url)]
                ]
                waiting = waiting or bool(idle)
                if idle and time.monotonic() > deadline_s:
                    account.problems.append(
                        f"{account.balancer.name}: {', '.join(idle)} got no request again"
                    )
            if not waiting or time.monotonic() > deadline_s:
                return Ending.COMPLETE

    def _await_back(self) -> None:
        """Wait until all balancers know that all replicas are healthy."""
        deadline_s = time.monotonic() + _BACK_TIMEOUT_S
        for account in self._accounts:
            while True:
                states = {
                    one["url"]: one["healthy"] for one in account.ask("/health").json()["replicas"]
                }
                missing = [one.name for one in self._replicas if not states[one.url]]
                if not missing:
                    break
                if time.monotonic() > deadline_s:
                    name = account.balancer.name
                    account.problems.append(f"{name}: {', '.join(missing)} did not come back")
                    break
                time.sleep(0.2)

    def _slice(self, duration_s: float) -> tuple[DriveResult, ...]:
        self._slices += 1
        loads = [self._load(index, duration_s) for index in range(len(self._accounts))]
        results = run_together(loads, drain_timeout_s=DRAIN_S)
        for account, result in zip(self._accounts, results, strict=True):
            account.add(result.samples)
        if not any(one.ending is Ending.INTERRUPTED for one in results):
            for account in self._accounts:
                account.look()
        return results

    def _load(self, index: int, duration_s: float) -> Load:
        schedule = plan_closed_loop(
            seed=self._seed + 1000 * self._slices + index,
            models=(self._replicas[0].model,),
            workload=Workload(Fixed(PROMPT_TOKENS), Fixed(ANSWER_TOKENS)),
            concurrency=self._concurrency,
            duration_s=duration_s,
            count=self._concurrency + math.ceil(_MOST_PER_S * duration_s),
        )
        count = len(schedule.requests)
        prompts = [f"Request {number} of slice {self._slices}" for number in range(count)]
        return Load(schedule, prompts, [self._accounts[index].balancer.url] * count)

    def _note(self, now: str) -> None:
        minutes, seconds = divmod(round(time.monotonic() - self._began_s), 60)
        answered = sum(one.answered for one in self._accounts)
        failed = sum(one.failures.total() for one in self._accounts)
        readings = [one.readings[-1] for one in self._accounts if one.readings]
        mib = sum(one.rss_bytes for one in readings) / 2**20
        files = sum(one.files for one in readings)
        self._progress.note(
            f"{minutes}:{seconds:02}  {answered:,} answered, {failed:,} failed; balancers:"
            f" {mib:.0f} MiB, {files} files" + (f"; {now}" if now else "")
        )


def _wrong(accounts: Sequence[Account], files: int) -> Iterator[str]:
    """What is wrong, while the balancers still run; so many more `files` may be open."""
    for account in accounts:
        name = account.balancer.name
        yield from account.problems
        try:
            _await_idle(account)
            yield from unaccounted(name, account.sent, counted(account.ask("/metrics").text))
        except UserError as error:
            yield str(error)
        yield from leaks(name, account.readings, files)


def _await_idle(account: Account) -> None:
    """Wait until nothing is in flight. Raises UserError if something stays so."""
    deadline_s = time.monotonic() + DRAIN_S
    while any(one["in_flight"] for one in account.ask("/health").json()["replicas"]):
        if time.monotonic() > deadline_s:
            raise UserError(f"{account.balancer.name}: requests are in flight that nobody sent")
        time.sleep(0.1)


def _authority(url: str) -> str:
    return url.partition("://")[2]


def _lines(found: Outcome) -> Iterator[str]:
    shown = ", ".join(f"{found.faults[kind]} {kind}" for kind in KINDS)
    yield f"{found.lasted_s / 60:.1f} minutes; faults: {shown}"
    for account in found.accounts:
        failures = ", ".join(f"{count} {kind}" for kind, count in account.failures.most_common())
        yield (
            f"{account.balancer.name}: {account.answered:,} answered, failed: {failures or 'none'}"
        )
        if account.readings:
            first, last = account.readings[0], account.readings[-1]
            yield (
                f"  {last.processes} processes, memory {first.rss_bytes / 2**20:.0f} to"
                f" {last.rss_bytes / 2**20:.0f} MiB, {first.files} to {last.files} files"
            )
