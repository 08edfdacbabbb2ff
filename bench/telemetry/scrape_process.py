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
import math
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from urllib.parse import urlencode, urlsplit

from bench.processes.program import block

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
_FIELDS = {name.encode(): field for field, name in SERIES.items()}

_QUOTED = rb'"(?:[^"\\\n]|\\.)*"'
_SAMPLE = re.compile(
    # The expression begins with a literal, by which it is searched for much faster; that
    # the line begins there is asked afterwards.
    rb"vllm:(?:(?<=\Avllm:)|(?<=\nvllm:))"
    rb"(?P<name>" + b"|".join(name.removeprefix(b"vllm:") for name in _FIELDS) + rb")"
    # What follows the name is a label set or a blank, or it would be another name.
    rb"(?:\{(?P<labels>(?:[^\"}\n]|" + _QUOTED + rb")*)\}|(?=[ \t]))"
    rb"[ \t]*(?P<value>[^ \t\r\n]+)"
)
_MODEL_NAME = re.compile(rb"(?:^|,)[ \t]*model_name[ \t]*=[ \t]*(" + _QUOTED + rb")")
_ESCAPED = re.compile(rb"\\(.)")


def read_series(text: bytes, model: str) -> dict[str, float]:
    """The wanted series of `model` by field; what is not exported, or no number, is left out.

    A replica may have several engines (data parallelism), and a series one more label:
    they are summed. KV cache usage, a share in [0, 1], is that of the fullest engine,
    for that one will preempt.
    """
    values: dict[str, list[float]] = {}
    for match in _SAMPLE.finditer(text):
        value = _number(match["value"])
        if value is not None and _model_name(match["labels"] or b"") == model:
            values.setdefault(_FIELDS[b"vllm:" + match["name"]], []).append(value)
    return {field: _together(field)(seen) for field, seen in values.items()}


def _together(field: str) -> Callable[[Iterable[float]], float]:
    return max if field == "kv_cache_usage" else math.fsum


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _model_name(labels: bytes) -> str | None:
    match = _MODEL_NAME.search(labels)
    if match is None:
        return None
    name = _ESCAPED.sub(lambda escaped: b"\n" if escaped[1] == b"n" else escaped[1], match[1][1:-1])
    return name.decode("utf-8", errors="replace")
