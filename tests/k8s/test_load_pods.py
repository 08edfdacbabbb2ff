"""Load from pods, end to end but for the pods: the programs are processes of this machine."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from bench.config.topology import load_topology
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.environments.kubernetes.load_pods import PodSite
from bench.errors import UserError
from bench.load.accuracy.check import check_client
from bench.load.accuracy.measurement import Level
from bench.load.run.drive import DriveResult, Ending, Load
from bench.load.run.processes import run_spread
from bench.processes.clocks import ask_clock
from bench.processes.program import Program, block, read_block
from bench.progress import PlainProgress
from bench.records import ErrorKind, Replica, Schedule
from bench.telemetry.scraping import scraping
from tests.bench.load_source import ANSWER, CHUNKED, LAST_CHUNK, Call, chunk, opened, source
from tests.k8s.scripted_cluster import READY, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.serial]

PATIENCE_S = 60.0
WHOLE = CHUNKED + chunk(ANSWER) + LAST_CHUNK
ARM = load_topology().arm("baseline")
WAITS = {
    "phase": "Pending",
    "containerStatuses": [
        {
            "image": "llm-bench:0.1.0",
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
        }
    ],
}


Make = Callable[..., KubernetesEnvironment]


def test_pods_are_places_and_nothing_is_left_of_them(
    cluster: Cluster, environment: Make, said: io.StringIO
) -> None:
    one = environment(ARM, load_pods=3)
    site = one.site()
    assert (site.shards, site.one_clock) == (3, False)
    places = [{"pod": f"load-{place}-x7k2p", "node": "node1"} for place in range(3)]
    assert site.facts() == {"name": "pods", "places": places}
    assert cluster.names("jobs") == ["load"]
    one.stop()
    assert not cluster.objects
    assert "cluster lab" in said.getvalue()
    one.stop()


def test_pods_that_are_to_be_kept_stay_and_the_next_run_replaces_them(
    cluster: Cluster, environment: Make, said: io.StringIO
) -> None:
    kept = environment(ARM, load_pods=2, keep=True)
    kept.site()
    kept.stop()
    assert len(cluster.names("pods")) == 2
    again = environment(ARM)
    assert again.site().shards == 1
    assert len(cluster.names("pods")) == 1
    assert "the load that namespace llm-bench has is replaced" in said.getvalue()


def test_more_places_than_there_is_room_for_are_refused(
    cluster: Cluster, environment: Make
) -> None:
    with pytest.raises(UserError, match=r"room for 8 load pods, --load-processes asks for 9: each"):
        environment(ARM, load_pods=9).site()
    assert not cluster.objects


def test_a_pod_that_does_not_come_up_is_diagnosed(cluster: Cluster, environment: Make) -> None:
    cluster.pod_status = lambda place: WAITS if place else READY
    with pytest.raises(UserError, match=r"load-1-x7k2p: image llm-bench:0\.1\.0 cannot be pulled"):
        environment(ARM, load_pods=2).site()


def test_a_place_that_is_not_there_and_an_exec_that_is_refused_are_one_line(
    cluster: Cluster, environment: Make
) -> None:
    site = environment(ARM).site()
    with pytest.raises(UserError, match=r"there is no load pod 1: there are 1; see --load"):
        site.start("tests.k8s.echo", [], 1)
    message = 'pods "load-0-x7k2p" is forbidden: User "me" cannot create resource "pods/exec"'
    cluster.refusal = (403, message)
    with pytest.raises(UserError, match=r"^not allowed to start python -m .* in Pod load-0-.*exec"):
        site.start("tests.k8s.echo", [], 0)
    cluster.refusal = None
    cluster.protocols = ()
    with pytest.raises(UserError, match=r"does not speak v5\.channel\.k8s\.io"):
        site.start("tests.k8s.echo", [], 0)


def test_a_pod_that_is_gone_is_named(cluster: Cluster, environment: Make) -> None:
    site = environment(ARM).site()
    cluster.delete_pod(0)
    with pytest.raises(UserError, match=r'cannot start .*: pods "load-0-x7k2p" not found \(404\)'):
        site.start("tests.k8s.echo", [], 0)


def shard(site: PodSite, order: str) -> Program:
    started = site.start("bench.load.run.shard_process", [], 0)
    started.send(order.encode())
    return started


def test_what_a_program_says_as_it_ends_is_its_last_word(environment: Make) -> None:
    with closing(shard(environment(ARM).site(), "nonsense\n")) as failed:
        with pytest.raises(UserError, match=r"^it ended with 2: Expecting value"):
            failed.line(PATIENCE_S)
        failed.send(b"too late\n")
        assert str(failed.ended()).startswith("it ended with 2: ")


def test_binary_goes_there_and_back_and_closing_ends_the_program(
    cluster: Cluster, environment: Make
) -> None:
    data = os.urandom(5_000_000)
    with closing(environment(ARM).site().start("tests.k8s.echo", [], 0)) as echo:
        echo.send(block(data))
        assert read_block(echo, PATIENCE_S) == data
        with pytest.raises(UserError, match=r"it said nothing for 0\.1 s"):
            echo.line(0.1)
        assert echo.ended() is None
    assert echo.ended() == "it ended with 0 and said nothing"
    assert cluster.running == 0
    echo.close()


def test_a_program_whose_connection_is_lost_ends_by_itself(
    cluster: Cluster, environment: Make
) -> None:
    with closing(environment(ARM).site().start("tests.k8s.echo", [], 0)) as echo:
        echo.send(block(b"there"))
        assert read_block(echo, PATIENCE_S) == b"there"
        cluster.cut()
        with pytest.raises(UserError, match=r"the connection to it was lost"):
            echo.line(PATIENCE_S)
        deadline_s = time.monotonic() + PATIENCE_S
        while cluster.running and time.monotonic() < deadline_s:
            time.sleep(0.05)
    assert cluster.running == 0


def test_one_that_heeds_nothing_is_killed(cluster: Cluster, environment: Make) -> None:
    with closing(environment(ARM).site().start("tests.k8s.echo", ["deaf"], 0)) as deaf:
        assert deaf.line(PATIENCE_S) == b"deaf"
    assert deaf.ended() == "it ended with 137 and said nothing"
    assert cluster.running == 0


def test_clocks_are_compared_within_the_time_that_asking_takes(environment: Make) -> None:
    site = environment(ARM).site()
    order = '{"index": 0, "count": 1, "drain_s": 1.0}\n'
    with closing(shard(site, order)) as one:
        one.send(block(b"[]"))
        assert one.line(PATIENCE_S) == b"ready"
        clock = ask_clock(one, PATIENCE_S)
    # Here they are one clock, in truth.
    assert abs(clock.ahead_s) <= clock.bound_s < 1.0


def test_the_client_is_checked_in_a_pod(environment: Make, said: io.StringIO) -> None:
    level = Level(streams=2, first_ms=5, every_ms=5, chunks=3, turns=1)
    accuracy = check_client(PlainProgress(said), environment(ARM).site(), level)
    assert accuracy.streams == 2


async def answer(call: Call) -> None:
    await call.write(WHOLE)


def spread(schedule: Schedule, url: str, site: PodSite, drain_timeout_s: float) -> DriveResult:
    seeded = replace(schedule, sha256="5eed")
    count = len(schedule.requests)
    load = Load(seeded, [f"prompt {index}" for index in range(count)], [url] * count)
    assert site.shards is not None
    (result,) = run_spread([load], site, processes=site.shards, drain_timeout_s=drain_timeout_s)
    return result


def test_pods_share_a_load_and_replicas_are_scraped_beside_it(
    cluster: Cluster, environment: Make
) -> None:
    site = environment(ARM, load_pods=2).site()
    with source(answer) as served:
        replica = Replica("m", "m-0", served.url)
        with scraping([replica], site, period_s=0.1) as scraper:
            schedule = opened([0.02 * index for index in range(20)], 0.4)
            result = spread(schedule, served.url, site, 20.0)
    assert [sample.index for sample in result.samples] == list(range(20))
    assert all(sample.ok for sample in result.samples)
    assert (result.ending, result.instrument.processes) == (Ending.COMPLETE, 2)
    assert result.instrument.start_apart_s is not None
    assert 0 < result.instrument.start_apart_s < 1.0
    assert result.started_s is not None
    (series,) = scraper.since(result.started_s)
    # On the clock of place 0, which was scraped before the start and after the end.
    assert series.readings[0].at_s < 0 < result.elapsed_s < series.readings[-1].at_s
    assert cluster.running == 0


def test_a_pod_that_is_deleted_loses_its_samples_and_is_named(
    cluster: Cluster, environment: Make
) -> None:
    site = environment(ARM).site()

    async def delete_pod(call: Call) -> None:
        cluster.delete_pod(0)
        await call.hang()

    with (
        source(delete_pod) as served,
        pytest.raises(
            UserError,
            match=r"all load processes were lost; load process 1 of 1 left no samples: "
            r"it ended with 137.*; pod load-0-x7k2p is gone",
        ),
    ):
        spread(opened([0.0, 20.0], 21.0), served.url, site, 20.0)


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_keeps_what_every_pod_has_measured(cluster: Cluster, environment: Make) -> None:
    site = environment(ARM, load_pods=2).site()

    async def ctrl_c_at_the_last(call: Call) -> None:
        if call.prompt in {"prompt 0", "prompt 1"}:
            await answer(call)
        else:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.02)
            await call.hang()

    with source(ctrl_c_at_the_last) as served:
        result = spread(opened([0.0, 0.0, 0.6, 50.0], 60.0), served.url, site, 20.0)
    assert result.ending is Ending.INTERRUPTED
    assert [sample.error for sample in result.samples] == [None, None, ErrorKind.TIMEOUT]
    assert cluster.running == 0
