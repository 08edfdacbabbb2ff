"""The plan, the ledger and what is made of it. What it measures is measured by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.errors import UserError
from validation.evidence.command import NEIGHBOUR
from validation.evidence.ledger import (
    AA_SCENARIOS,
    LedgerEntry,
    missing,
    planned_runs,
)
from validation.evidence.summary import page, summary
from validation.ledger import append, read_ledger
from validation.sittings import MODELS

RUN = next(iter(planned_runs()))
ENTRY = LedgerEntry(
    run=RUN,
    rule=2,
    commit="0123456789ab",
    machine="a processor, 2 cores",
    day="2026-01-31",
    took_s=90.0,
    verdict="better",
    ratio=0.4,
    low=0.3,
    high=0.5,
    blocks=4,
    set_aside=1,
    spread=0.2,
    capacity_rps=(80.0, 95.0),
)


def test_the_plan_has_enough_of_each_kind_and_nothing_twice() -> None:
    planned = list(planned_runs())
    kinds = Counter(run.kind for run in planned)
    assert kinds.pop("aa") == 60
    assert set(kinds.values()) == {20}
    assert len({run.key for run in planned}) == len(planned)
    alike = Counter(run.scenario for run in planned if run.kind == "aa")
    assert alike == dict.fromkeys(AA_SCENARIOS, 12)
    assert all(run.control == run.treatment for run in planned if run.kind == "aa")
    assert {run.model for run in planned if run.kind == "heavy_tail_quick"} == set(MODELS)


def test_a_sitting_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    planned = list(planned_runs())
    assert missing(planned, read_ledger(ledger, LedgerEntry), rule=2) == planned
    append(ledger, [ENTRY])
    append(ledger, [replace(ENTRY, run=planned[1], rule=1)])
    entries = read_ledger(ledger, LedgerEntry)
    assert entries[0] == ENTRY
    assert missing(planned, entries, rule=2) == planned[1:]


def test_a_line_that_is_no_entry_is_named(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    append(ledger, [ENTRY])
    ledger.write_text(ledger.read_text() + '{"run": 3}\n')
    with pytest.raises(UserError, match=r"ledger.jsonl:2 is no entry of the ledger: "):
        read_ledger(ledger, LedgerEntry)


@pytest.mark.parametrize("line", [b"\xff", b"[" * 100_000, b"NaN", b'{"run": ' + b"9" * 5000])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    ledger = tmp_path / "ledger.jsonl"
    append(ledger, [ENTRY])
    ledger.write_bytes(ledger.read_bytes() + line)
    with pytest.raises(UserError, match=r"ledger.jsonl:2 is no entry of the ledger: "):
        read_ledger(ledger, LedgerEntry)


def test_a_full_disk_leaves_no_half_entry(small_disk: Path) -> None:
    ledger, kept = small_disk / "ledger.jsonl", list[LedgerEntry]()

    def append_on_and_on() -> None:
        for number in range(1000):
            entry = replace(ENTRY, machine="x" * 2000, blocks=number)
            append(ledger, [entry])
            kept.append(entry)

    with pytest.raises(UserError, match="No space left on device; free some"):
        append_on_and_on()
    assert kept
    assert read_ledger(ledger, LedgerEntry) == kept


def test_every_run_counts_under_the_rule_that_judged_it() -> None:
    def of(kind: str, verdict: str, rule: int = 2) -> LedgerEntry:
        return replace(ENTRY, run=replace(RUN, kind=kind), verdict=verdict, rule=rule)

    found = summary(
        [
            of("aa", "equivalent"),
            of("aa", "worse"),
            of("aa", "better", rule=1),
            of("slowdown_20", "worse"),
        ],
        rule=2,
    )
    nothing = {"better": 0, "worse": 0, "equivalent": 0, "inconclusive": 0, "invalid": 0}
    assert found["aa"] == {"runs": 2, **nothing, "worse": 1, "equivalent": 1}
    assert found["slowdown_20"] == {"runs": 1, **nothing, "worse": 1}
    assert found["slowdown_40"] == {"runs": 0, **nothing}
    assert found["earlier_rules"]["1"]["aa"] == {"runs": 1, **nothing, "better": 1}


def test_the_page_tells_each_run_with_its_seed() -> None:
    text = page([ENTRY], rule=2)
    assert "Version 2 of the rule: 1 of 160 planned runs" in text
    assert f"| {RUN.seed} | better | 0.40 [0.30, 0.50] | 4 (1) | 0.20 | 80 to 95 |" in text
    assert page([], rule=2).startswith("# How often the rule is right\n")


def test_the_neighbour_takes_its_share_and_leaves_with_who_called_it() -> None:
    """A third of each core here, so that a second is enough to see it."""
    command = [sys.executable, "-I", "-S", str(NEIGHBOUR), "0.33", "1"]
    before = _neighbours()
    with subprocess.Popen(command, stdin=subprocess.PIPE) as caller:
        assert caller.wait(10) == 0
        ours = _neighbours() - before
        assert len(ours) == len(psutil.Process().cpu_affinity())
        assert all(one.ppid() != psutil.Process().pid for one in ours)
        deadline_s = time.monotonic() + 120
        while not any(sum(one.cpu_times()[:2]) > 0.2 for one in ours):
            assert time.monotonic() < deadline_s, "it takes no time at all"
            time.sleep(0.1)
    _, alive = psutil.wait_procs(list(ours), timeout=20)
    assert alive == []


def _neighbours() -> set[psutil.Process]:
    processes = psutil.process_iter(["cmdline"])
    return {one for one in processes if str(NEIGHBOUR) in (one.info["cmdline"] or ())}
