"""The process that scrapes: one thread for each replica, on a fixed grid of times.

Not imported: `scraper` runs this module in a process of its own, so that the loop which
measures is not held up. The first line of its standard input says what to scrape. When the
trial has ended and the input says `end`, every replica is scraped once more and all that was
read is written to standard output, as a block; when it is closed, because whoever started it
is gone, the process exits. Its times are of time.monotonic(), which all processes of a machine
share.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from time import monotonic
from urllib.parse import urlencode, urlsplit

from bench.processes.program import block
from bench.telemetry.exposition import SERIES, read_series

# At /metrics vLLM renders everything, which costs the replica some 4 ms of CPU. With the slash
# another handler answers, which renders only what is named: 0.4 ms.
PATHS = ("/metrics/?" + urlencode([("name[]", name) for name in SERIES.values()]), "/metrics")

# due, at, what was read by field, why nothing was
Row = tuple[float, float, dict[str, float], str | None]


class Watch(threading.Thread):
    """Scrapes one replica every `period_s` seconds until `ended`, and then once more."""

    def __init__(
        self, model: str, url: str, period_s: float, timeout_s: float, ended: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.rows: list[Row] = []
        self.begun = threading.Event()
        self._model = model
        self._url = urlsplit(url)
        self._paths = list(PATHS)
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._ended = ended

    def run(self) -> None:
        due_s = monotonic()
        while not self._ended.wait(max(0.0, due_s - monotonic())):
            self._scrape(due_s)
            self.begun.set()
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
        status, at_s, text = self._ask(self._paths[0])
        if status != http.client.OK and len(self._paths) > 1:
            del self._paths[0]
            status, at_s, text = self._ask(self._paths[0])
        if status != http.client.OK:
            raise http.client.HTTPException(f"status {status}")
        return at_s, text

    def _ask(self, path: str) -> tuple[int, float, bytes]:
        secure = self._url.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(self._url.netloc.rpartition("@")[2], timeout=self._timeout_s)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            coding = answer.getheader("Content-Encoding", "identity")
            if coding.lower() != "identity":
                raise http.client.HTTPException(f"content encoding {coding}, unasked")
            return answer.status, monotonic(), answer.read()
        finally:
            connection.close()


def next_due_s(due_s: float, period_s: float, now_s: float) -> float:
    """The first instant of the grid after `now_s`: what passed meanwhile is left out."""
    return due_s + period_s * (1 + max(0.0, now_s - due_s) // period_s)


def main() -> None:
    """Scrape what the first line of standard input names, until the next one comes."""
    order = json.loads(sys.stdin.readline())
    period_s, timeout_s = order["period_s"], order["timeout_s"]
    ended = threading.Event()
    watches = {
        name: Watch(model, url, period_s, timeout_s, ended)
        for name, model, url in order["replicas"]
    }
    for watch in watches.values():
        watch.start()
    for watch in watches.values():
        watch.begun.wait(timeout_s)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    ended.set()
    # One scrape may be under way, and the last one follows.
    gives_up_s = monotonic() + 2 * timeout_s
    for watch in watches.values():
        watch.join(max(0.0, gives_up_s - monotonic()))
    never: Row = (monotonic(), monotonic(), {}, "no answer in time")
    read = {name: list(watch.rows) or [never] for name, watch in watches.items()}
    sys.stdout.buffer.write(block(json.dumps(read).encode()))


if __name__ == "__main__":
    main()
