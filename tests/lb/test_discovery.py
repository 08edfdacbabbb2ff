"""Replicas come and go without a lost request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.discovery.roster import Roster
from lb.discovery.sources import Resolved, WatchedFile, discovering
from lb.errors import UserError
from lb.http.endpoint import Endpoint, Target, parse_targets
from lb.replicas.fleet import Fleet
from tests.lb.fleets import request
from tests.lb.scripted import Balancer, Call, ScriptedReplica, Streams, balancer

ONE, TWO = "http://10.0.0.1:8000", "http://10.0.0.2:8000"


def endpoint(number: int) -> Endpoint:
    return Endpoint("10.0.0.1", 8000 + number, f"10.0.0.1:{8000 + number}")


# What is written.


def test_targets_are_separated_by_commas_or_lines_and_may_have_weights() -> None:
    text = f"{ONE} weight=2.5, http://[::1]:1\n\n# a comment\n{TWO}  weight=1 # another\n"
    assert [(t.endpoint.url, t.weight) for t in parse_targets(text, "test")] == [
        (ONE, 2.5),
        ("http://[::1]:1", 1),
        (TWO, 1),
    ]


@given(st.dictionaries(st.integers(1, 65535), st.floats(0.001, 1000), min_size=1, max_size=8))
def test_targets_are_read_as_they_were_written(weights: dict[int, float]) -> None:
    text = "\n".join(
        f"http://10.0.0.1:{port} weight={weight!r}" for port, weight in weights.items()
    )
    assert {t.endpoint.port: t.weight for t in parse_targets(text, "test")} == weights


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ONE} weight=0", "weight '0' of http://10.0.0.1:8000 is not a number from 0.001"),
        (f"{ONE} weight=1001", "weight '1001' of"),
        (f"{ONE} weight=inf", "weight 'inf' of"),
        (f"{ONE} weight=", "weight '' of"),
        (f"{ONE} wait=2", "is not an endpoint like"),
        (f"{ONE},{ONE}/", "http://10.0.0.1:8000 is given twice"),
        ("# nothing", "names no endpoints"),
    ],
)
def test_a_mistake_in_a_target_is_named(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=r"^source") as raised:
        parse_targets(text, "source")
    assert expected in str(raised.value)


# What is found.


@pytest.mark.anyio
async def test_a_broken_file_leaves_everything_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "endpoints"
    path.write_text(f"\ufeff{ONE}")
    found: list[tuple[Target, ...]] = []
    async with discovering(WatchedFile(path, interval_s=0.01), found.append), asyncio.timeout(20):
        for broken in ("", "what", f"{TWO} weight=-1"):
            path.write_text(broken)
            while not any(record.levelname == "WARNING" for record in caplog.records):
                await asyncio.sleep(0.01)
            caplog.clear()
        path.unlink()
        while "cannot be read: No such file or directory" not in caplog.text:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert caplog.text.count("cannot be read") == 1
        assert found == [parse_targets(ONE, "test")]
        path.write_text(TWO)
        while len(found) < 2:
            await asyncio.sleep(0.01)
    assert found[1] == parse_targets(TWO, "test")


@pytest.mark.anyio
async def test_a_name_stands_for_every_address_that_it_has() -> None:
    targets = await Resolved(Endpoint("localhost", 8000, "localhost:8000")).look_up()
    assert "http://127.0.0.1:8000" in [target.endpoint.url for target in targets]
    assert len(set(targets)) == len(targets)
    with pytest.raises(UserError, match=r"no-such-host\.invalid cannot be resolved"):
        await Resolved(Endpoint("no-such-host.invalid", 80, "")).look_up()


# What is made of it.


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1))
def test_the_fleet_gets_what_is_wanted_and_keeps_what_has_requests(
    steps: list[set[int]],
) -> None:
    fleet = Fleet()
    roster = Roster(fleet)
    flights = {}
    for now_s, wanted in enumerate(steps):
        roster.reconcile([Target(endpoint(number)) for number in sorted(wanted)], now_s)
        serving = {one.endpoint for one in fleet.replicas if not one.draining}
        assert serving == {endpoint(number) for number in wanted}
        for replica in fleet.replicas:
            if replica not in flights:
                flights[replica] = fleet.begin(replica, request())
        roster.remove_drained(now_s + 1000)
        assert set(flights) == set(fleet.replicas)
    roster.reconcile([], 1e6)
    for flight in flights.values():
        flight.end()
    roster.remove_drained(1e6 + 1000)
    assert fleet.replicas == ()
    assert fleet.in_flight == 0


# What clients notice of it: nothing.


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Balancer]:
    async with balancer(source=WatchedFile(path, interval_s=0.02)) as lb, asyncio.timeout(30):
        yield lb


@pytest.mark.anyio
async def test_a_replica_that_is_taken_out_finishes_its_streams_and_gets_nothing_new(
    tmp_path: Path,
) -> None:
    streams = Streams()
    path = tmp_path / "endpoints"
    async with ScriptedReplica(streams) as old, ScriptedReplica() as new:
        path.write_text(old.url)
        async with watching(path) as lb:
            response = await lb.stream()
            path.write_text(new.url)
            await lb.until(new.url, healthy=True)
            await lb.until(old.url, draining=True, in_flight=1)
            for _ in range(4):
                assert (await lb.post()).headers["x-lb-replica"] == new.name
            streams.finish.set()
            assert (await response.aread()).endswith(b"[DONE]\n\n")
            await lb.until(old.url, draining=True, in_flight=0)
    assert len(old.calls) == 1


@pytest.mark.anyio
async def test_a_rolling_restart_of_the_replicas_loses_no_request(tmp_path: Path) -> None:
    path = tmp_path / "endpoints"

    async def slow(call: Call) -> None:
        await asyncio.sleep(0.01)
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async def send(lb: Balancer, statuses: list[int]) -> None:
        while not over.is_set():
            statuses.append((await lb.post()).status_code)

    over = asyncio.Event()
    statuses: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(ScriptedReplica(slow)) for _ in range(3)]
        path.write_text("\n".join(one.url for one in running))
        lb = await stack.enter_async_context(watching(path))
        clients = [asyncio.create_task(send(lb, statuses)) for _ in range(8)]
        for old in tuple(running):
            running.remove(old)
            path.write_text("\n".join(one.url for one in running))
            await lb.until(old.url, draining=True, in_flight=0)
            await old.die()
            running.append(await stack.enter_async_context(ScriptedReplica(slow)))
            path.write_text("\n".join(one.url for one in running))
            await lb.until(running[-1].url, healthy=True)
        over.set()
        await asyncio.gather(*clients)
    assert set(statuses) == {200}
