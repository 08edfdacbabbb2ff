"""Scraping through real sockets: what is asked, when, and what becomes of failures."""

from __future__ import annotations

import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from bench.processes.local import LocalSite
from bench.processes.tls import Tls
from bench.records import Replica, ServerReading
from bench.telemetry.scraping import SERIES, next_due_s, scraping

Answer = Callable[[BaseHTTPRequestHandler], None]
PERIOD_S = 0.05


def say(handler: BaseHTTPRequestHandler, text: str, status: int = 200) -> None:
    body = text.encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def encoded(handler: BaseHTTPRequestHandler) -> None:
    assert handler.headers["Accept-Encoding"] == "identity"
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def waiting(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 'vllm:num_requests_waiting{model_name="m"} 3\n')


@contextmanager
def served(
    answer: Answer, name: str = "m-0", tls: ssl.SSLContext | None = None
) -> Iterator[tuple[Replica, list[str]]]:
    """A replica that answers so, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        scheme = "http" if tls is None else "https"
        yield Replica("m", name, f"{scheme}://127.0.0.1:{server.server_port}"), asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def readings_of(
    replica: Replica, enough: Callable[[], bool], timeout_s: float = 5.0
) -> tuple[ServerReading, ...]:
    """Readings of a replica that is scraped until there are enough of them."""
    with scraping([replica], LocalSite(), PERIOD_S, timeout_s) as scraper:
        start_s = time.monotonic()
        while not enough():
            time.sleep(0.01)
    (series,) = scraper.since(start_s)
    assert series.replica == replica.name
    return series.readings


def test_a_replica_is_read_before_within_and_after_on_a_grid_that_does_not_shift() -> None:
    with served(waiting) as (replica, asked):
        readings = readings_of(replica, lambda: len(asked) > 10)
    assert len(readings) == len(asked)
    assert {reading.waiting for reading in readings} == {3}
    assert readings[0].due_s < 0 < readings[-1].at_s
    for reading in readings[:-1]:
        steps = (reading.due_s - readings[0].due_s) / PERIOD_S
        assert steps == pytest.approx(round(steps), abs=1e-6)
        assert reading.at_s >= reading.due_s


def test_only_the_wanted_series_are_asked_for() -> None:
    with served(waiting) as (replica, asked):
        readings_of(replica, lambda: len(asked) > 1)
    url = urlsplit(asked[0])
    assert url.path == "/metrics/"
    assert parse_qs(url.query)["name[]"] == list(SERIES.values())


def test_a_server_that_knows_only_the_plain_path_is_asked_there() -> None:
    def strict(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/metrics":
            waiting(handler)
        else:
            say(handler, "not found", 404)

    with served(strict) as (replica, asked):
        readings = readings_of(replica, lambda: len(asked) > 5)
    assert asked[1:] == ["/metrics"] * (len(asked) - 1)
    assert [reading.error for reading in readings] == [None] * len(readings)


def test_a_replica_is_read_with_its_own_authority_and_a_key(tmp_path: Path) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    keys: list[str | None] = []

    def keyed(handler: BaseHTTPRequestHandler) -> None:
        keys.append(handler.headers["Authorization"])
        waiting(handler)

    with served(keyed, tls=tls) as (own, _), served(keyed) as (other, _):
        replicas = [own, replace(own, name="m-1", metrics_url=f"{other.url}/metrics")]
        key = {"Authorization": "Bearer k"}
        with scraping(replicas, LocalSite(), PERIOD_S, headers=key, tls=Tls(ca=ca)) as scraper:
            while len(keys) < 4:
                time.sleep(0.01)
    for series in scraper.since(0.0):
        assert {(one.error, one.waiting) for one in series.readings} == {(None, 3)}
    # The place of metrics that is not the replica's own gets no key.
    assert set(keys) == {"Bearer k", None}


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda handler: say(handler, "busy", 503), "status 503"),
        (lambda handler: say(handler, "no metrics here"), "no series of m"),
        (lambda handler: say(handler, 'vllm:num_requests_waiting{model_name="n"} 1'), "no series"),
        (encoded, "content encoding gzip"),
        (broken, ""),
    ],
    ids=["refused", "foreign", "another model", "encoded", "broken"],
)
def test_what_cannot_be_read_is_missing_with_the_reason(answer: Answer, error: str) -> None:
    with served(answer) as (replica, asked):
        readings = readings_of(replica, lambda: len(asked) > 3)
    for reading in readings:
        assert error in (reading.error or pytest.fail("no reason"))
        assert (reading.waiting, reading.running, reading.finished) == (None, None, None)


def test_a_replica_that_is_gone_is_missing_and_its_neighbour_is_read() -> None:
    with served(waiting, "m-1") as (gone, _):
        pass
    with served(waiting) as (replica, asked):
        with scraping([gone, replica], LocalSite(), PERIOD_S) as scraper:
            while len(asked) < 3:
                time.sleep(0.01)
        lost, alive = scraper.since(0.0)
    assert all("refused" in (reading.error or "") for reading in lost.readings)
    assert all(reading.waiting == 3 for reading in alive.readings)


def test_a_replica_that_hangs_keeps_neither_its_neighbour_nor_the_trial() -> None:
    released = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        released.wait(30)

    with served(hang) as (stuck, _), served(waiting, "m-1") as (replica, asked):
        with scraping([stuck, replica], LocalSite(), PERIOD_S, timeout_s=0.2) as scraper:
            while len(asked) < 8:
                time.sleep(0.01)
        released.set()
        lost, alive = scraper.since(0.0)
    assert {reading.error for reading in lost.readings} == {"timed out"}
    assert len(alive.readings) >= 8


def test_a_scraper_that_is_killed_leaves_every_replica_missing() -> None:
    with served(waiting) as (replica, _), scraping([replica], LocalSite(), PERIOD_S) as scraper:
        (process,) = (
            child
            for child in psutil.Process().children()
            if "bench.telemetry.scraping" in child.cmdline()
        )
        os.kill(process.pid, signal.SIGKILL)
    (series,) = scraper.since(0.0)
    (reading,) = series.readings
    assert reading.error == "the program that scrapes is lost: it ended with 137 and said nothing"
    assert reading.waiting is None


def test_an_error_within_ends_the_scraper_and_goes_on_up() -> None:
    with (
        served(waiting) as (replica, _),
        pytest.raises(KeyboardInterrupt),
        scraping([replica], LocalSite(), PERIOD_S) as scraper,
    ):
        raise KeyboardInterrupt
    assert scraper.since(0.0)[0].readings[-1].waiting == 3
    assert not any(
        "bench.telemetry.scraping" in child.cmdline() for child in psutil.Process().children()
    )


@given(st.floats(-1e6, 1e6), st.floats(0.01, 10), st.floats(0, 100))
def test_the_next_instant_is_the_first_of_the_grid_that_has_not_passed(
    due_s: float, period_s: float, later_s: float
) -> None:
    now_s = due_s + later_s
    following = next_due_s(due_s, period_s, now_s)
    steps = (following - due_s) / period_s
    assert steps == pytest.approx(round(steps), abs=1e-4)
    assert now_s - 1e-6 <= following <= max(now_s, due_s) + period_s + 1e-6
