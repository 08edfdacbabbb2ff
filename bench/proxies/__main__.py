"""`python -m bench.proxies`: measure the proxies that are installed, side by side."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from bench.cores import pinned
from bench.errors import UserError
from bench.progress import Progress, make_progress
from bench.proxies.cores import lay_out
from bench.proxies.machine import busy_percent, busy_remarks, machine_facts
from bench.proxies.measurement import OPEN_STREAMS, measure
from bench.proxies.peers import REFERENCE, Peer, known_peers
from bench.proxies.record import record_of
from bench.proxies.rounds import Round, run_rounds
from bench.proxies.running import SOURCE, Servers
from bench.proxies.streams import allow_files
from bench.proxies.summary import summarize
from bench.proxies.table import absences, render
from bench.proxies.tool import first_line
from bench.proxies.wrk import Wrk
from bench.store.files import strict_json, write_whole

ROOT = Path(__file__).parents[2]
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m bench.proxies --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 after one line on stderr if that is not possible."""
    try:
        options = parser().parse_args(arguments)
        compare(options, ROOT / "results" / "bench-lb.json")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was kept", file=sys.stderr)
        return _INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = _Parser(prog="python -m bench.proxies", description=__doc__, allow_abbrev=False)
    top.add_argument("--rounds", type=_count, default=3, metavar="N", help="default: %(default)s")
    top.add_argument(
        "--window", type=_count, default=3, metavar="S", help="seconds a part (default: 3)"
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
    allow_files(OPEN_STREAMS)
    folder = ROOT / ".cache" / "logs" / f"proxies-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    versions = {"wrk": first_line((str(wrk), "-v"), folder / "version.log")}
    versions |= {
        peer.name: first_line(peer.ask_version, folder / "version.log") for peer in present
    }
    layout = lay_out(sorted(os.sched_getaffinity(0)))
    facts = machine_facts(ROOT, layout) | {"window_s": options.window}
    before = busy_percent()
    with pinned(layout.load), closing(Servers(ROOT, folder, layout)) as servers:
        rounds = _measure(servers, present, Wrk(wrk, folder), options, make_progress())
    after = busy_percent()
    facts["busy_percent"] = {"before": before, "after": after}
    figures = summarize(rounds, SOURCE, REFERENCE)
    write_whole(output, strict_json(output, record_of(facts, versions, absent, rounds, figures)))
    remarks = (*busy_remarks(before, after), *absences(absent))
    width = shutil.get_terminal_size((120, 24)).columns
    colour = sys.stdout.isatty()
    print(render(figures, rounds, REFERENCE, remarks, width=width, colour=colour), end="")


def choose(peers: Sequence[Peer], only: str | None) -> list[Peer]:
    """The peers named in `only`, separated by commas, or all. Raises UserError."""
    if only is None:
        return list(peers)
    names = [name.strip() for name in only.split(",")]
    known = {peer.name: peer for peer in peers}
    for name in names:
        if name not in known:
            raise UserError(f"--only: {name!r} is not one of {', '.join(known)}")
    return [peer for peer in peers if peer.name in names]


def _measure(
    servers: Servers,
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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
