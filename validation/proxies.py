"""`python -m validation proxies`: measure the proxies that are installed, side by side.

It measures proxies only. No engine runs, and nothing here says how a model is served.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.console import log_folder
from bench.environments.peers import Place
from bench.errors import UserError
from bench.load.accuracy.answers import AT_ONCE, CHUNKS, MODEL, chat_body
from bench.load.accuracy.running import LocalServer
from bench.processes.resources import allow_connections, pinned
from bench.progress import make_progress
from bench.records import Replica
from bench.telemetry.cpu import Usage
from validation import harness
from validation.figures import Comparison, Metric, Of, Round, cpu_metric
from validation.harness import ROOT
from validation.programs import REFERENCE, Proxy, known_proxies
from validation.proxy_load import Load, Wrk, while_streaming
from validation.servers import SOURCE, Servers

CONNECTIONS = 64
OPEN_STREAMS = 2000
CHUNK_EVERY_MS = 5
_WARM_UP_S = 1
# For closed connections to be put away before another proxy is measured on that core.
_SETTLE_S = 0.5
# As many replicas as such a number of streams has: balancers bound what each may have.
_HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 9))
LOADS = (
    f"CPU/JSON: of a whole answer of 1 KB, as are latencies and rates. CPU/SSE: of a stream of "
    f"{CHUNKS} events that the source sends in one write. CPU/chunk: of one of {CHUNKS} events "
    f"sent {CHUNK_EVERY_MS} ms apart. Kernel: the part of it that system calls took, "
    "which no proxy of this kind can do without."
)
READING = (
    "source: no proxy in between, and the source's own CPU. Where a proxy's core was not busy, "
    "the load or the source was the limit: compare CPU there, not requests per second."
)


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of load on a server: what wrk counted, and what the server used meanwhile."""

    load: Load
    used: Usage

    def per_s(self, amount: float) -> float:
        """`amount` per second of the load."""
        return amount / self.load.duration_s

    @property
    def answer_cpu_s(self) -> tuple[float, float]:
        """CPU seconds per answer: in all, and those of system calls."""
        return self.used.cpu_s / self.load.requests, self.used.kernel_s / self.load.requests


@dataclass(frozen=True, slots=True)
class Measurement:
    """One server in one round.

    `whole`: answers of JSON, `CONNECTIONS` at a time. `lone`: the same, one at a time. `bursts`:
    streams whose events the source sends in one write. `streams`: streams whose events come one
    by one; those that the end of the window cuts off have a part in their CPU time, for all
    proxies alike. `rss_bytes` is the memory with `OPEN_STREAMS` streams, None unless all of
    them were open. `errors` are wrk's counts by kind.
    """

    whole: Part
    lone: Part
    bursts: Part
    streams: Part
    open_streams: int
    rss_bytes: int | None
    errors: Mapping[str, int]


def _added(latency_s: Callable[[Load], float]) -> Of[Measurement]:
    """Microseconds by which a lone request takes longer than at the source; None for it."""
    return lambda one, round_: (
        None
        if one is round_[SOURCE]
        else (latency_s(one.lone.load) - latency_s(round_[SOURCE].lone.load)) * 1e6
    )


def _rss_mib(one: Measurement, _: Round[Measurement]) -> float | None:
    return None if one.rss_bytes is None else one.rss_bytes / 2**20


METRICS: tuple[Metric[Measurement], ...] = (
    Metric(
        "requests_per_s",
        f"at {CONNECTIONS}",
        "req/s",
        lambda one, _: one.whole.per_s(one.whole.load.requests),
    ),
    Metric("p50_ms", f"p50 at {CONNECTIONS}", "ms", lambda one, _: one.whole.load.p50_s * 1e3),
    Metric("p99_ms", f"p99 at {CONNECTIONS}", "ms", lambda one, _: one.whole.load.p99_s * 1e3),
    Metric("added_p50_us", "added p50", "µs", _added(lambda load: load.p50_s)),
    Metric("added_p99_us", "added p99", "µs", _added(lambda load: load.p99_s)),
    Metric(
        "core_percent",
        "its core",
        "% busy",
        lambda one, _: one.whole.per_s(100 * one.whole.used.cpu_s),
    ),
    cpu_metric("request_cpu_us", "CPU/JSON", lambda one: one.whole.answer_cpu_s),
    cpu_metric("burst_cpu_us", "CPU/SSE", lambda one: one.bursts.answer_cpu_s),
    cpu_metric("chunk_cpu_us", "CPU/chunk", lambda one: one.streams.answer_cpu_s, per=CHUNKS),
    Metric("rss_mib", f"RSS at {OPEN_STREAMS:,}", "MiB", _rss_mib),
)
COMPARISON = Comparison(
    note=(
        "Only proxies were measured, with a synthetic source behind them: no engine ran, and "
        "nothing here says how fast a model is served."
    ),
    metrics=METRICS,
    reference=REFERENCE,
    incomparable={SOURCE},
)


def measure(server: LocalServer, wrk: Wrk, window_s: int) -> Measurement:
    """Warm up, then measure in five parts. Raises UserError if it answers nothing."""

    def under_load(body: bytes, connections: int) -> Part:
        before = server.usage()
        load = wrk.run(server.port, body, connections=connections, seconds=window_s)
        used = server.usage().since(before)
        if not load.requests:
            log = server.process.log
            raise UserError(
                f"{log.stem} answered nothing within {window_s} s ({load.errors or 'no error'}); "
                f"see {log}, or leave it out with --only"
            )
        return Part(load, used)

    json, stream = chat_body(stream=False), chat_body(stream=True)
    burst = chat_body(stream=True, prompt=AT_ONCE)
    wrk.run(server.port, json, connections=CONNECTIONS, seconds=_WARM_UP_S)
    whole, lone = under_load(json, CONNECTIONS), under_load(json, 1)
    bursts, streams = under_load(burst, CONNECTIONS), under_load(stream, CONNECTIONS)
    opened, rss_bytes = while_streaming(server.port, OPEN_STREAMS, lambda: server.usage().rss_bytes)
    time.sleep(_SETTLE_S)
    errors = Counter[str]()
    for part in (whole, lone, bursts, streams):
        errors.update(part.load.errors)
    return Measurement(
        *(whole, lone, bursts, streams),
        open_streams=opened,
        rss_bytes=rss_bytes if opened == OPEN_STREAMS else None,
        errors=dict(sorted(errors.items())),
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """Cores by number. The proxies take turns on `proxy`; the load may use all of `load`."""

    proxy: int
    source: int
    load: tuple[int, ...]


def lay_out(cores: Sequence[int]) -> Layout:
    """A core for the proxies, one for the source, the others for the load.

    Of two cores the source shares one with the load; of one, all share it.
    """
    return Layout(proxy=cores[-1], source=cores[0], load=tuple(cores[1:-1]) or (cores[0],))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    harness.add_counts(
        parser,
        ("rounds", 3, "times that every proxy is measured"),
        ("window", 3, "seconds that each of the four loads takes"),
    )
    parser.add_argument("--only", metavar="A,B", help="proxies to measure (default: all)")


def compare(options: argparse.Namespace, output: Path = ROOT / "results" / "bench-lb.json") -> None:
    """Measure what is installed, print the table, write the record to `output` (JSON).

    Raises UserError when nothing can be measured, or a proxy that is installed does not work.
    """
    selected = harness.choose(known_proxies(ROOT), options.only, "proxy")
    program = shutil.which("wrk")
    if program is None:
        raise UserError("wrk, which makes the load, is absent; install it with: apt install wrk")
    # A proxy has two connections for each stream.
    allow_connections(2 * OPEN_STREAMS)
    folder = log_folder(ROOT, "proxies")
    wrk = Wrk(program, folder)
    layout = lay_out(sorted(os.sched_getaffinity(0)))
    facts = harness.machine_facts(asdict(layout)) | selected.facts(folder)
    facts["versions"]["wrk"] = harness.first_line((program, "-v"), folder)
    facts |= {"connections": CONNECTIONS, "open_streams": OPEN_STREAMS, "window_s": options.window}
    progress = make_progress()
    with harness.busy_around() as busy, pinned(layout.load), Servers(folder) as servers:
        with progress.step("starting the source and the proxies") as step:
            source = start_source(servers, layout)
            started = {SOURCE: source}
            for proxy in selected.present:
                step.update(proxy.name)
                started[proxy.name] = start_proxy(servers, proxy, source.port, folder, layout)
        rounds = harness.run_rounds(
            started, options.rounds, lambda one, _: measure(one, wrk, options.window), progress
        )
    remarks = (*harness.busy_remarks(**busy), *selected.remarks, *remarks_of(rounds))
    harness.finish(COMPARISON, rounds, facts | {"busy_percent": busy}, remarks, output)


def start_source(servers: Servers, layout: Layout) -> LocalServer:
    """Start the source, on its core, at all hosts. Raises UserError if it does not start."""
    return servers.start_source(CHUNK_EVERY_MS, {layout.source}, _HOSTS)


def start_proxy(
    servers: Servers, proxy: Proxy, source_port: int, folder: Path, layout: Layout
) -> LocalServer:
    """Start a proxy in front of the source. Raises UserError if it does not answer."""
    port, metrics_port = next(servers.ports), next(servers.ports)
    replicas = tuple(Replica(MODEL, host, f"http://{host}:{source_port}") for host in _HOSTS)
    command = proxy.start(Place(port, metrics_port, replicas, folder))
    return servers.start(proxy.name, command, port, {layout.proxy})


def remarks_of(rounds: Sequence[Round[Measurement]]) -> Iterator[str]:
    """What `rounds` show, then how to read the table."""
    for name in rounds[0]:
        errors = sum((Counter(measured[name].errors) for measured in rounds), Counter[str]())
        if errors:
            kinds = ", ".join(sorted(errors))
            yield f"{name}: {errors.total():,} errors ({kinds}); its figures do not count"
        opened = min(measured[name].open_streams for measured in rounds)
        if opened < OPEN_STREAMS:
            yield f"{name}: only {opened:,} of {OPEN_STREAMS:,} streams could be held open"
    yield from (LOADS, READING)
