"""`python -m validation proxies`: measure the proxies that are installed, side by side.

It measures proxies only. No engine runs, and nothing here says how a model is served.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.console import log_folder
from bench.errors import UserError
from bench.load.accuracy.answers import CHUNKS
from bench.load.accuracy.running import LocalServer
from bench.processes.resources import allow_connections, pinned
from bench.progress import make_progress
from validation import harness
from validation.figures import Comparison, Round
from validation.harness import ROOT
from validation.proxies.load import Wrk
from validation.proxies.measurement import (
    CHUNK_EVERY_MS,
    CONNECTIONS,
    METRICS,
    OPEN_STREAMS,
    Measurement,
    measure,
)
from validation.proxies.programs import REFERENCE, Place, Proxy, known_proxies
from validation.servers import SOURCE, Servers

# As many replicas as such a number of streams has: balancers bound what each may have.
_HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 9))

COMPARISON = Comparison(
    note=(
        "Only proxies were measured, with a synthetic source behind them: no engine ran, and "
        "nothing here says how fast a model is served."
    ),
    metrics=METRICS,
    reference=REFERENCE,
    incomparable={SOURCE},
)
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
    wrk = Wrk(Path(program), folder)
    layout = lay_out(sorted(os.sched_getaffinity(0)))
    facts = harness.machine_facts(asdict(layout)) | {
        "connections": CONNECTIONS,
        "open_streams": OPEN_STREAMS,
        "window_s": options.window,
        "versions": {"wrk": wrk.version()} | selected.versions(folder),
        "absent": {one.name: one.install for one in selected.absent},
    }
    progress = make_progress()
    with harness.busy_around() as busy, pinned(layout.load), closing(Servers(folder)) as servers:
        with progress.step("starting the source and the proxies") as step:
            source = start_source(servers, layout)
            started = {SOURCE: source}
            for proxy in selected.present:
                step.update(proxy.name)
                started[proxy.name] = start_proxy(servers, proxy, source.port, folder, layout)
        rounds = harness.run_rounds(
            started,
            options.rounds,
            lambda server, _: measure(server, wrk, options.window),
            progress,
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
    replicas = tuple(f"{host}:{source_port}" for host in _HOSTS)
    command = proxy.start(Place(port, metrics_port, replicas, folder))
    return servers.start(proxy.name, command, port, {layout.proxy})


def remarks_of(rounds: Sequence[Round[Measurement]]) -> Iterator[str]:
    """What `rounds` show, then how to read the table."""
    for name in rounds[0]:
        errors = sum(sum(measured[name].errors.values()) for measured in rounds)
        if errors:
            kinds = sorted({kind for measured in rounds for kind in measured[name].errors})
            yield f"{name}: {errors:,} errors ({', '.join(kinds)}); its figures do not count"
        opened = min(measured[name].open_streams for measured in rounds)
        if opened < OPEN_STREAMS:
            yield f"{name}: only {opened:,} of {OPEN_STREAMS:,} streams could be held open"
    yield from (LOADS, READING)
