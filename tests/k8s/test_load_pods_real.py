"""With a cluster that has the suite's image: programs run in pods, and nothing is left of them.

Uses the namespace of the load, so that no measurement may be under way.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from bench.config.topology import load_topology
from bench.environments.kubernetes.access import Access, connect
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.environments.kubernetes.load_pods import PodSite
from bench.environments.kubernetes.objects import LOAD_NAMESPACE
from bench.environments.kubernetes.streams import STDOUT
from bench.errors import UserError
from bench.load.accuracy.check import check_client
from bench.processes.clocks import ask_clock
from bench.processes.program import block
from bench.progress import PlainProgress

pytestmark = pytest.mark.cluster
PATIENCE_S = 60.0
# Of `python -m MODULE`, as the processes of a pod see each other.
LOOK = """
import pathlib
for one in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    words = one.read_bytes().decode().split(chr(0))
    if words[1:2] == ["-m"]:
        print(words[2])
"""
ORDER = b'{"index": 0, "count": 1, "drain_s": 1.0}\n'


@pytest.fixture(scope="module")
def api(real_cluster: Access) -> Api:
    return connect(real_cluster)


@pytest.fixture(scope="module")
def progress() -> PlainProgress:
    return PlainProgress(io.StringIO())


@pytest.fixture(scope="module")
def site(
    real_cluster: Access,
    api: Api,
    progress: PlainProgress,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PodSite]:
    """A site of two places, of which nothing is left."""
    arm, cache = load_topology().arm("baseline"), tmp_path_factory.mktemp("cache")
    environment = KubernetesEnvironment(
        real_cluster,
        (arm,),
        cache,
        progress,
        topology=load_topology(),
        timeout_s=600.0,
        load_pods=2,
    )
    try:
        yield environment.site()
    finally:
        environment.stop()
    assert api.get("Namespace", None, LOAD_NAMESPACE) is None


def modules(api: Api, site: PodSite, place: int) -> set[str]:
    """The modules that Python runs in a place, but for this question."""
    pod = site.facts()["places"][place]["pod"]
    streams = api.execute(LOAD_NAMESPACE, pod, "load", ["python", "-c", LOOK])
    said = b""
    while received := streams.receive():
        stream, data = received
        said += data if stream == STDOUT else b""
    streams.close()
    return set(said.decode().split())


def test_the_client_is_checked_in_a_pod(site: PodSite, progress: PlainProgress) -> None:
    assert check_client(progress, site).streams == 16


def test_a_pods_clock_is_known_within_the_time_that_asking_takes(site: PodSite) -> None:
    with closing(site.start("bench.load.run.shard_process", [], 1)) as shard:
        shard.send(ORDER + block(b"[]"))
        assert shard.line(PATIENCE_S) == b"ready"
        assert 0 < ask_clock(shard, PATIENCE_S).bound_s < 1.0
    assert shard.ended() == "it ended with 2: the input ended before the start"


def test_a_mistake_is_reported_in_pythons_words(site: PodSite) -> None:
    with (
        closing(site.start("bench.no_such_module", [], 0)) as missing,
        pytest.raises(
            UserError, match=r"^it ended with 1: .*No module named bench\.no_such_module"
        ),
    ):
        missing.line(PATIENCE_S)


def test_a_program_that_ignores_its_input_is_killed_and_so_is_one_without_a_connection(
    api: Api, site: PodSite
) -> None:
    with closing(site.start("bench.processes.idle", [], 1)) as deaf:
        time.sleep(1.0)
        assert modules(api, site, 1) == {"bench.processes.idle", "bench.processes.guard"}
    assert deaf.ended() == "it ended with 137 and said nothing"
    lost = site.start("bench.load.run.shard_process", [], 1)
    lost._streams.abort()
    lost.close()
    assert str(lost.ended()).startswith("the connection to it was lost")
    deadline_s = time.monotonic() + PATIENCE_S
    while modules(api, site, 1) != {"bench.processes.idle"} and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert modules(api, site, 1) == {"bench.processes.idle"}


def test_a_pod_that_is_deleted_is_named(api: Api, site: PodSite) -> None:
    pod = site.facts()["places"][1]["pod"]
    with closing(site.start("bench.processes.idle", [], 1)) as idle:
        api.delete("Pod", LOAD_NAMESPACE, pod)
        with pytest.raises(UserError, match=f"pod {pod} is (gone|being deleted)"):
            idle.line(PATIENCE_S)
    deadline_s = time.monotonic() + PATIENCE_S
    while api.get("Pod", LOAD_NAMESPACE, pod) and time.monotonic() < deadline_s:
        time.sleep(0.5)
    with pytest.raises(UserError, match=f'pods "{pod}" not found'):
        site.start("bench.processes.idle", [], 1)
    with closing(site.start("bench.load.run.shard_process", [], 0)) as other:
        assert other.ended() is None
