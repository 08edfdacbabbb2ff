"""The endpoints of a service are followed, however the API server behaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.discovery.kubernetes import WatchedService
from lb.discovery.kubernetes.watch import lines
from lb.discovery.sources import discovering
from lb.http.endpoint import Target
from tests.lb.apiserver import QUICK, ApiServer, endpoint_slice, pod

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = (pod(name, f"10.0.0.{name[-1]}") for name in ("pod-1", "pod-2", "pod-3"))


class Followed:
    """What discovery has found so far, oldest first, by the replicas' names."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []

    def found(self, targets: tuple[Target, ...]) -> None:
        self.steps.append([target.endpoint.name for target in targets])

    async def until(self, *names: str) -> None:
        await eventually(lambda: bool(self.steps) and self.steps[-1] == list(names))


@contextlib.asynccontextmanager
async def following(source: WatchedService) -> AsyncIterator[Followed]:
    followed = Followed()
    async with discovering(source, followed.found):
        yield followed


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer(tmp_path / "account") as server, asyncio.timeout(60):
        yield server


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


# What happens to the slices.


async def test_what_is_there_at_first_is_known_when_discovery_has_begun(api: ApiServer) -> None:
    api.put(endpoint_slice("a", ONE), endpoint_slice("b", TWO))
    async with following(api.source()) as followed:
        assert followed.steps == [["pod-1", "pod-2"]]


async def test_slices_that_come_change_and_go_are_followed_in_one_watch(api: ApiServer) -> None:
    async with following(api.source()) as followed:
        assert followed.steps == [[]]
        api.put(endpoint_slice("a", ONE))
        await followed.until("pod-1")
        api.put(endpoint_slice("b", TWO, THREE))
        await followed.until("pod-1", "pod-2", "pod-3")
        api.put(endpoint_slice("b", {**TWO, "conditions": {"ready": False}}, THREE))
        await followed.until("pod-1", "pod-3")
        api.put(endpoint_slice("a", pod("pod-1", "10.0.0.1", ready=False, terminating=True)))
        await followed.until("pod-3")
        api.delete("b")
        await followed.until()
    assert api.asked == ["list", "watch 1"]


# What happens to the watch.


async def test_a_watch_that_has_ended_goes_on_from_the_last_event_or_bookmark(
    api: ApiServer,
) -> None:
    async with following(api.source()) as followed:
        await api.watched()
        api.put(endpoint_slice("a", ONE))
        await followed.until("pod-1")
        api.bookmark()
        bookmarked = api.version
        api.end_watches()
        await api.was_asked(f"watch {bookmarked}")
        api.put(endpoint_slice("b", TWO))
        await followed.until("pod-1", "pod-2")
    assert api.asked.count("list") == 1
    assert len(followed.steps) == 3


async def test_an_event_that_was_cut_off_comes_again(api: ApiServer) -> None:
    async with following(api.source()) as followed:
        await api.watched()
        api.put_and_cut(endpoint_slice("a", ONE))
        await followed.until("pod-1")
    assert api.asked == ["list", "watch 1", "watch 1"]


async def test_what_the_server_has_forgotten_is_listed_again(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(endpoint_slice("a", ONE), endpoint_slice("b", TWO))
    async with following(api.source()) as followed:
        await api.watched()
        api.end_watches()
        # Nobody watches while this happens, and the server does not repeat it.
        api.delete("a")
        api.forget()
        await followed.until("pod-2")
        await api.watched()
    assert api.asked.count("list") == 2
    assert "WARNING" not in [record.levelname for record in caplog.records]


@pytest.mark.parametrize("status", [403, 410, 429, 500, 503])
async def test_an_answer_with_an_error_leads_to_a_new_list(api: ApiServer, status: int) -> None:
    api.put(endpoint_slice("a", ONE))
    async with following(api.source()) as followed:
        await api.watched()
        api.refused["watch"] = status
        api.end_watches()
        await api.was_asked("list", times=3)
        assert followed.steps == [["pod-1"]]
        del api.refused["watch"]
        api.put(endpoint_slice("a", ONE, TWO))
        await followed.until("pod-1", "pod-2")


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd is away"}}',
        b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}',
        b'{"type":"MODIFIED","object":{}}',
        b'{"type":"WHATEVER","object":{"metadata":{"resourceVersion":"1"}}}',
        b"<html>",
        b"",
    ],
)
async def test_an_event_that_is_none_leaves_replicas_and_leads_to_a_new_list(
    api: ApiServer, line: bytes
) -> None:
    api.put(endpoint_slice("a", ONE))
    async with following(api.source()) as followed:
        await api.watched()
        api.say(line)
        await api.was_asked("list", times=2)
        await api.watched()
        api.put(endpoint_slice("a", TWO))
        await followed.until("pod-2")
    assert followed.steps == [["pod-1"], ["pod-2"]]


async def test_a_watch_that_has_fallen_silent_is_given_up_and_goes_on(api: ApiServer) -> None:
    pace = replace(QUICK, watch_s=0.2, margin_s=0.2)
    async with following(api.source(pace=pace)) as followed:
        await api.was_asked("watch 1", times=2)  # this server never ends one
        api.put(endpoint_slice("a", ONE))
        await followed.until("pod-1")
    assert api.asked.count("list") == 1


async def test_pauses_get_longer_while_nothing_gets_better(api: ApiServer) -> None:
    api.refused["watch"] = 500
    pace = replace(QUICK, first_pause_s=0.01, longest_pause_s=60)
    began_s = time.monotonic()
    async with following(api.source(pace=pace)):
        await api.was_asked("list", times=8)
    # Seven pauses, the first of 0.01 s, each twice as long, and half of that at the least.
    assert time.monotonic() - began_s > 0.01 * (2**7 - 1) / 2


# What happens to the API server.


async def test_without_its_api_server_it_starts_and_finds_replicas_later(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    source = api.source()
    await api.go_away()
    async with following(source) as followed:
        assert followed.steps == []
        await eventually(lambda: "cannot be reached" in caplog.text)
        api.put(endpoint_slice("a", ONE))
        await api.come_back()
        await followed.until("pod-1")


async def test_an_api_server_that_is_away_leaves_replicas_as_they_are(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(endpoint_slice("a", ONE))
    async with following(api.source()) as followed:
        await api.watched()
        await api.go_away()
        await eventually(lambda: "replicas stay as they are" in caplog.text)
        await asyncio.sleep(0.2)
        assert followed.steps == [["pod-1"]]
        api.put(endpoint_slice("a", TWO))
        await api.come_back()
        await followed.until("pod-2")
    assert api.asked.count("list") == 1


async def test_an_api_server_that_does_not_answer_leaves_replicas_as_they_are(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(endpoint_slice("a", ONE))
    async with following(api.source(pace=replace(QUICK, answer_s=0.5))) as followed:
        await api.watched()
        api.silent = True
        api.end_watches()
        await eventually(lambda: "does not answer" in caplog.text)
        assert followed.steps == [["pod-1"]]
        api.silent = False
        api.put(endpoint_slice("a", TWO))
        await followed.until("pod-2")


async def test_a_server_that_is_not_the_clusters_is_not_believed(
    api: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(endpoint_slice("a", ONE))
    async with ApiServer(tmp_path / "other") as other:
        source = replace(api.source(), account=replace(api.source().account, folder=other.folder))
        async with following(source) as followed:
            await eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
    assert followed.steps == []
    assert api.asked == []


# What the balancer may do.


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_what_is_forbidden_is_told_in_a_line_with_what_is_missing(
    api: ApiServer, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    api.refused[verb] = 403
    async with following(api.source()) as followed:
        await eventually(lambda: "may not" in caplog.text)
        del api.refused[verb]
        api.put(endpoint_slice("a", ONE))
        await followed.until("pod-1")
    assert (
        f"the ServiceAccount may not {verb} endpointslices in namespace managed: its Role needs "
        "apiGroups [discovery.k8s.io], resources [endpointslices], verbs [list, watch]\n"
    ) in caplog.text


async def test_a_token_is_read_again_when_it_was_replaced(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(api.source()) as followed:
        await api.watched()
        api.rotate("second")
        api.end_watches()
        await api.watched()
        (api.folder / "token").write_text("made up")
        api.end_watches()
        await eventually(lambda: "does not accept the token in" in caplog.text)
        (api.folder / "token").unlink()
        await eventually(lambda: "token cannot be read: No such file" in caplog.text)
        api.rotate("third")
        api.put(endpoint_slice("a", ONE))
        await followed.until("pod-1")
    assert "made up" not in caplog.text


async def test_a_port_that_is_not_there_leaves_replicas_until_it_is(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(endpoint_slice("a", ONE, api=8000))
    async with following(api.source("engines:api")) as followed:
        await api.watched()
        api.put(endpoint_slice("a", TWO, http=8000))
        await eventually(lambda: "managed/engines has no port named api, only http" in caplog.text)
        assert followed.steps == [["pod-1"]]
        api.put(endpoint_slice("a", TWO, api=8000))
        await followed.until("pod-2")
    assert api.asked == ["list", "watch 2"]


# How a stream is read.


@given(
    st.lists(st.binary().map(lambda line: line.replace(b"\n", b""))),
    st.lists(st.integers(0, 9), min_size=1).filter(any),
)
def test_lines_are_whole_in_whatever_pieces_they_come(
    written: list[bytes], sizes: list[int]
) -> None:
    stream = b"".join(line + b"\n" for line in written) + b"cut off"

    async def chunks() -> AsyncIterator[bytes]:
        start = 0
        for size in cycle(sizes):
            if start >= len(stream):
                return
            yield stream[start : start + size]
            start += size

    async def read() -> list[bytes]:
        return [line async for line in lines(chunks())]

    assert asyncio.run(read()) == written
