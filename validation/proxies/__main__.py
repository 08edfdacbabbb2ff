"""`python -m validation.proxies`: measure the proxies that are installed, side by side."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.console import Parser, exit_code, log_folder, run_program, whole_number
from bench.cores import pinned
from bench.errors import UserError
from bench.openfiles import allow_connections
from bench.progress import Progress, make_progress
from bench.store.files import strict_json, write_whole
from validation.proxies.columns import METRICS
from validation.proxies.cores import lay_out
from validation.proxies.measurement import CONNECTIONS, OPEN_STREAMS, Round, measure
from validation.proxies.peers import REFERENCE, Peer, known_peers
from validation.proxies.running import Proxies
from validation.proxies.wording import ONLY_PROXIES, remarks_of
from validation.proxies.wrk import Wrk
from validation.sidebyside.choice import absences, choose
from validation.sidebyside.figures import summarize
from validation.sidebyside.machine import busy_percent, busy_remarks, machine_facts
from validation.sidebyside.record import record_of
from validation.sidebyside.rounds import run_rounds
from validation.sidebyside.running import SOURCE
from validation.sidebyside.table import render
from validation.sidebyside.tool import first_line

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 after one line on stderr if that is not possible."""
    output = ROOT / "results" / "bench-lb.json"
    return exit_code(lambda: compare(parser().parse_args(arguments), output))


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = Parser(prog="python -m validation.proxies", description=__doc__, allow_abbrev=False)
    top.add_argument(
        "--rounds", type=whole_number, default=3, metavar="N", help="default: %(default)s"
    )
    top.add_argument(
        "--window", type=whole_number, default=3, metavar="S", help="seconds a part (default: 3)"
    )
    top.add_argument("--only", metavar="A,B", help="proxies to measure (default: all)")
    return top


def compare(options: argparse.Namespace, output: Path) -> None:
    """Measure what is present, print the table, write the record to `output` (JSON).

    Raises UserError when nothing can be measured, or a proxy that is present does not work.
    """
    chosen = choose(known_peers(ROOT), options.only)
    wrk = _wrk()
    absent = {peer.name: peer.install for peer in chosen if peer.program is None}
    present = [peer for peer in chosen if peer.program is not None]
    if not present:
        raise UserError("no proxy to measure: " + "; ".join(absences(absent)))
    # A proxy has two connections for each stream.
    allow_connections(2 * OPEN_STREAMS)
    folder = log_folder(ROOT, "proxies")
    versions = {"wrk": first_line((str(wrk), "-v"), folder / "version.log")}
    versions |= {
        peer.name: first_line(peer.ask_version, folder / "version.log") for peer in present
    }
    layout = lay_out(sorted(os.sched_getaffinity(0)))
    sizes = {"connections": CONNECTIONS, "open_streams": OPEN_STREAMS, "window_s": options.window}
    facts = machine_facts(ROOT, layout.facts()) | sizes
    before = busy_percent()
    with pinned(layout.load), closing(Proxies(ROOT, folder, layout)) as servers:
        rounds = _measure(servers, present, Wrk(wrk, folder), options, make_progress())
    after = busy_percent()
    facts["busy_percent"] = {"before": before, "after": after}
    figures = summarize(rounds, METRICS, REFERENCE, incomparable={SOURCE})
    record = record_of(ONLY_PROXIES, facts, versions, absent, rounds, figures)
    write_whole(output, strict_json(output, record))
    remarks = (*busy_remarks(before, after), *absences(absent), *remarks_of(rounds))
    width = shutil.get_terminal_size((120, 24)).columns
    colour = sys.stdout.isatty()
    print(render(figures, METRICS, REFERENCE, remarks, width=width, colour=colour), end="")


def _measure(
    servers: Proxies,
    peers: Sequence[Peer],
    wrk: Wrk,
    options: argparse.Namespace,
    progress: Progress,
) -> list[Round]:
    with progress.step("starting the source and the proxies") as step:
        targets = [servers.start_source()]
        for peer in peers:
            step.update(peer.name)
            targets.append(servers.start(peer))
    return run_rounds(
        targets, options.rounds, lambda target: measure(target, wrk, options.window), progress
    )


def _wrk() -> Path:
    found = shutil.which("wrk")
    if found is None:
        raise UserError("wrk, which makes the load, is absent; install it with: apt install wrk")
    return Path(found)


if __name__ == "__main__":
    run_program(main)
