"""The soak: what it counts, what it finds, and a short one in front of scripted servers."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import pytest

from bench.records import ErrorKind
from tests.bench.making import answered, failed
from validation.soak.accounts import (
    GROWTH_BYTES,
    Reading,
    counted,
    leaks,
    statuses,
    unaccounted,
    unexplained,
)
from validation.soak.command import soak
from validation.soak.faults import KINDS

pytestmark = [pytest.mark.slow, pytest.mark.serial]

METRICS = """\
# TYPE lb_requests_total counter
lb_requests_total{replica="a:1",model="m",status="200"} 3
lb_requests_total{replica="",model="m",status="503"} 1
lb_requests_total{replica="b:1",model="m",status="200"} 4
lb_refusals_total{status="503",code="x"} 1
"""
SAMPLES = [
    *(answered(index, 0.5) for index in range(7)),
    failed(7, status=503, detail="HTTP 503: no replica"),
]


def test_what_both_have_counted_alike_is_accounted_for() -> None:
    assert counted(METRICS) == {200: 7, 503: 1}
    assert not [*unaccounted("lb", statuses(SAMPLES), counted(METRICS))]


def test_a_request_that_only_one_has_seen_is_told() -> None:
    lost = [*unaccounted("lb", statuses(SAMPLES[1:]), counted(METRICS))]
    assert lost == ["lb: status 200: the client has 6, the balancer counts 7"]
    unanswered = failed(8, ErrorKind.DISCONNECT, status=None, detail="closed")
    (line,) = unaccounted("lb", statuses([*SAMPLES, unanswered]), counted(METRICS))
    assert line == "lb: requests without an answer: the client has 1, the balancer counts 0"


def test_a_client_that_gave_up_has_left() -> None:
    given_up = failed(0, ErrorKind.TIMEOUT, status=200, detail="no complete answer")
    assert statuses([given_up]) == {499: 1}


def test_failures_that_no_replica_explains_are_told() -> None:
    refused = failed(0, ErrorKind.CONNECT, status=None, detail="refused")
    assert [*unexplained("lb", [refused])] == [
        "lb: 1 requests failed for no fault of a replica (connect: refused)"
    ]
    silent = failed(0, ErrorKind.SERVER, detail="")
    assert [*unexplained("lb", [silent])]
    assert not [*unexplained("lb", SAMPLES)]


@pytest.mark.parametrize(
    ("grown", "what"),
    [
        (Reading(3, 100 + 4 * GROWTH_BYTES, 20), "its memory has grown by 32.0 MiB"),
        (Reading(3, 100, 40), "20 more files are open; 10 are allowed"),
        (Reading(4, 100, 20), "it has had 3 and 4 processes"),
    ],
)
def test_what_grows_is_told(grown: Reading, what: str) -> None:
    usual = Reading(3, 100, 20)
    assert not [*leaks("lb", [usual] * 8, 10)]
    # What fills up at first is no leak.
    assert not [*leaks("lb", [Reading(3, 0, 0)] * 2 + [usual] * 6, 10)]
    (line,) = leaks("lb", [usual] * 6 + [grown] * 2, 10)
    assert what in line


def test_a_short_soak_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(
        minutes=0.3, seed=1, workers=2, concurrency=4, model="", upstreams="scripted"
    )
    code = soak(options, tmp_path / "soak.json")
    record = json.loads((tmp_path / "soak.json").read_text())
    assert record["problems"] == []
    assert code == 0
    assert "nothing was lost or leaked" in capsys.readouterr().out
    assert Counter(record["faults"]).keys() <= set(KINDS)
    assert sum(record["faults"].values()) > 2
    for one in record["balancers"].values():
        assert one["answered"] > 0
        assert len(one["served"]) >= 3
