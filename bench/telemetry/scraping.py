"""Scrapes the /metrics of replicas during a trial, in a process of its own.

So the loop that measures is not held up. `scraping` starts the process (`main`) where shard 0 of
the load is sent from and names the replicas; at the end of the trial the process scrapes each
once more and gives back all readings, on its own time.monotonic().
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from urllib.parse import urlencode, urlsplit

from bench.errors import UserError
from bench.processes.clocks import ask_clock
from bench.processes.program import ASK_CLOCK, END, Program, Site, block, read_block
from bench.processes.tls import Tls
from bench.records import Replica, ServerReading, ServerSeries
from lb.discovery.engine_metrics import compile_series, samples

PERIOD_S = 0.25
TIMEOUT_S = 5.0
# For the program to start, and for its readings to arrive.
_PATIENCE_S = 30.0

# Fields of `ServerReading`, and where vLLM exports them. Counters are exported a second time
# as `..._created`, the time at which they began: names are matched whole.
SERIES: Mapping[str, str] = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_cache_usage": "vllm:kv_cache_usage_perc",
    "preemptions": "vllm:num_preemptions_total",
    "prefix_queries": "vllm:prefix_cache_queries_total",
    "prefix_hits": "vllm:prefix_cache_hits_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "finished": "vllm:request_success_total",
}
_FIELDS = {name: field for field, name in SERIES.items()}
_WANTED = compile_series(_FIELDS)

# At /metrics vLLM renders everything, which costs the replica some 4 ms of CPU. With the slash
# another handler answers, which renders only what is named: 0.4 ms.
_PATHS = ("/metrics/?" + urlencode([("name[]", name) for name in SERIES.values()]), "/metrics")


# When a scrape was due, when it was read, the series by field, and why there are none.
Row = tuple[float, float, dict[str, float], str | None]


class Scraper:
    """The readings of every replica, once scraping has ended.

    `ahead_s` is how far shard 0's clock is ahead of this process's; None where that is not known.
    """

    ahead_s: float | None = None

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._rows: dict[str, list[Row]] = {replica.name: [] for replica in replicas}
        self._error: str | None = None

    def since(self, start_s: float) -> tuple[ServerSeries, ...]:
        """One series for each replica, in order; times count from `start_s` of shard 0's clock.

        Each has a reading from before the context was entered and one from after it was left;
        a reading that failed has its error. If all are lost, each series has one, with the error.
        """
        if self._error is not None:
            lost = ServerReading(due_s=0.0, at_s=0.0, error=self._error)
            return tuple(ServerSeries(name, (lost,)) for name in self._rows)
        return tuple(
            ServerSeries(name, tuple(_reading(row, start_s) for row in rows))
            for name, rows in self._rows.items()
        )

    def end(self, program: Program, timeout_s: float) -> None:
        """End the program that scrapes and take its readings."""
        program.send(END)
        try:
            rows = json.loads(read_block(program, timeout_s))
        except (UserError, ValueError) as error:
            self._error = f"the program that scrapes is lost: {error}"
        else:
            self._rows = {name: rows[name] for name in self._rows}


def _reading(row: Row, start_s: float) -> ServerReading:
    due_s, at_s, read, error = row
    return ServerReading(due_s=due_s - start_s, at_s=at_s - start_s, error=error, **read)


@contextmanager
def scraping(
    replicas: Sequence[Replica],
    site: Site,
    period_s: float = PERIOD_S,
    timeout_s: float = TIMEOUT_S,
    *,
    headers: Mapping[str, str] | None = None,
    tls: Tls | None = None,
) -> Iterator[Scraper]:
    """Scrape /metrics of `replicas` every `period_s` seconds within the context.

    `headers` may hold a key: they are sent to the replicas' own URLs, and to no `metrics_url`.
    A replica whose metrics cannot be read is no error. One that does not answer delays the
    beginning by `timeout_s` seconds and the end by twice as long at most, and the scraping of
    the others not at all.
    """
    scraper = Scraper(replicas)
    order = {
        "period_s": period_s,
        "timeout_s": timeout_s,
        "headers": dict(headers or {}),
        "tls": (tls or Tls()).as_json(),
        "replicas": [(one.name, one.model, one.url, one.metrics_url) for one in replicas],
    }
    program = site.start("bench.telemetry.scraping", [], 0)
    try:
        program.send(json.dumps(order).encode() + b"\n")
        with contextlib.suppress(UserError):  # it could not start: `Scraper.end` says why
            program.line(timeout_s + _PATIENCE_S)  # once every replica has been asked
            scraper.ahead_s = ask_clock(program, timeout_s).ahead_s
        try:
            yield scraper
        finally:
            scraper.end(program, 2 * timeout_s + _PATIENCE_S)
    finally:
        program.close()


# What follows runs in the process that scrapes.


def read_series(text: bytes, model: str) -> dict[str, float]:
    """The wanted series of `model` by field; what is not exported, or no number, is left out.

    A replica may have several engines (data parallelism), and a series one more label:
    these are summed. KV cache usage, a share in [0, 1], is that of the fullest engine,
    which is the first to preempt.
    """
    values: dict[str, list[float]] = {}
    for name, value in samples(_WANTED, text, {model}):
        values.setdefault(_FIELDS[name], []).append(value)
    return {
        field: max(read) if field == "kv_cache_usage" else math.fsum(read)
        for field, read in values.items()
    }


class ReplicaScraper(threading.Thread):
    """Scrapes one replica every `period_s` seconds until `ended`, and then once more.

    Its metrics are at `metrics_url`, or if that is empty at `url`/metrics.
    """

    def __init__(
        self,
        model: str,
        url: str,
        metrics_url: str,
        period_s: float,
        timeout_s: float,
        ended: threading.Event,
        headers: Mapping[str, str],
        tls: Tls,
    ) -> None:
        super().__init__(daemon=True)
        self.rows: list[Row] = []
        self.first_done = threading.Event()
        self._model = model
        self._url = urlsplit(metrics_url or url)
        own = f"{self._url.path or '/'}?{self._url.query}".rstrip("?")
        self._paths = [own] if metrics_url else [self._url.path.rstrip("/") + one for one in _PATHS]
        self._headers = {"Connection": "close", **({} if metrics_url else headers)}
        self._context = tls.context() if self._url.scheme == "https" else None
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._ended = ended

    def run(self) -> None:
        due_s = monotonic()
        while not self._ended.wait(max(0.0, due_s - monotonic())):
            self._scrape(due_s)
            self.first_done.set()
            due_s = next_due_s(due_s, self._period_s, monotonic())
        self._scrape(monotonic())

    def _scrape(self, due_s: float) -> None:
        try:
            at_s, text = self._get()
        except (OSError, http.client.HTTPException) as error:
            self.rows.append((due_s, monotonic(), {}, f"{error}" or type(error).__name__))
            return
        read = read_series(text, self._model)
        self.rows.append((due_s, at_s, read, None if read else f"no series of {self._model}"))

    def _get(self) -> tuple[float, bytes]:
        """The metrics, and when the head of the answer came: by then they were rendered."""
        status, at_s, text = self._request(self._paths[0])
        if status != http.client.OK and len(self._paths) > 1:
            del self._paths[0]
            status, at_s, text = self._request(self._paths[0])
        if status != http.client.OK:
            raise http.client.HTTPException(f"status {status}")
        return at_s, text

    def _request(self, path: str) -> tuple[int, float, bytes]:
        host, timeout_s = self._url.netloc.rpartition("@")[2], self._timeout_s
        connection = (
            http.client.HTTPConnection(host, timeout=timeout_s)
            if self._context is None
            else http.client.HTTPSConnection(host, timeout=timeout_s, context=self._context)
        )
        with contextlib.closing(connection):
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            coding = answer.getheader("Content-Encoding", "identity")
            if coding.lower() != "identity":
                raise http.client.HTTPException(f"content encoding {coding}, unasked")
            return answer.status, monotonic(), answer.read()


def next_due_s(due_s: float, period_s: float, now_s: float) -> float:
    """The first time of the grid after `now_s`; those that have passed are left out."""
    return due_s + period_s * (1 + max(0.0, now_s - due_s) // period_s)


def main() -> None:
    """Scrape what the first line of standard input names, until another than `clock` comes.

    Write `ready` once every replica has been asked, and all rows as a block at the end. Exit
    without a result when the input is closed.
    """
    order = json.loads(sys.stdin.buffer.readline())
    period_s, timeout_s = order["period_s"], order["timeout_s"]
    tls = Tls.from_json(order["tls"])
    ended = threading.Event()
    scrapers = {
        name: ReplicaScraper(
            model, url, metrics_url, period_s, timeout_s, ended, order["headers"], tls
        )
        for name, model, url, metrics_url in order["replicas"]
    }
    for scraper in scrapers.values():
        scraper.start()
    for scraper in scrapers.values():
        scraper.first_done.wait(timeout_s)
    print("ready", flush=True)
    while (line := sys.stdin.buffer.readline()) == ASK_CLOCK:
        print(monotonic(), flush=True)
    if not line:
        return
    ended.set()
    # One scrape may be under way, and the last one follows.
    give_up_s = monotonic() + 2 * timeout_s
    for scraper in scrapers.values():
        scraper.join(max(0.0, give_up_s - monotonic()))
    none: Row = (monotonic(), monotonic(), {}, "no answer in time")
    rows = {name: list(scraper.rows) or [none] for name, scraper in scrapers.items()}
    sys.stdout.buffer.write(block(json.dumps(rows).encode()))


if __name__ == "__main__":
    main()
