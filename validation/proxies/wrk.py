"""Closed-loop load with wrk, and what it counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.errors import UserError
from validation.sidebyside.answers import CHAT
from validation.sidebyside.tool import output_of

# wrk's own summary rounds to three digits and changes units; this one does not.
_SCRIPT = """\
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [==[%s]==]

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests":%%d,"duration_us":%%d,"p50_us":%%d,"p99_us":%%d,' ..
    '"connect":%%d,"read":%%d,"write":%%d,"status":%%d,"timeout":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""
_MARK = "RESULT "
_ERRORS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: answers, seconds, latencies of whole answers, and errors by kind.

    Answers with a status other than 2xx or 3xx are among the requests and the errors.
    The latencies are wrk's own, which adds what a stalled connection did not send.
    """

    requests: int
    duration_s: float
    p50_s: float
    p99_s: float
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Wrk:
    """The program, and a folder for its scripts and its output."""

    program: Path
    folder: Path

    def run(self, port: int, body: bytes, *, connections: int, seconds: int) -> Load:
        """POST `body` to `CHAT` over and over, on `connections` connections, one thread.

        Raises UserError when wrk does not measure.
        """
        path = self.folder / "wrk.lua"
        path.write_text(script(body), encoding="utf-8")
        size = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        url = f"http://127.0.0.1:{port}{CHAT}"
        command = [str(self.program), *size, "--script", str(path), url]
        return parse(output_of(command, self.folder / "wrk.log", timeout_s=seconds + 20.0))


def script(body: bytes) -> str:
    """The Lua script that posts `body` (JSON) and tells the result in one line of JSON."""
    return _SCRIPT % body.decode()


def parse(output: str) -> Load:
    """Read what `script` makes wrk print. Raises UserError, with what was printed instead."""
    lines = output.splitlines()
    found = [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]
    if not found:
        raise UserError(f"wrk did not measure: {(lines or ['it said nothing'])[-1].strip()!r}")
    told = orjson.loads(found[0])
    return Load(
        requests=told["requests"],
        duration_s=told["duration_us"] / 1e6,
        p50_s=told["p50_us"] / 1e6,
        p99_s=told["p99_us"] / 1e6,
        errors={kind: told[kind] for kind in _ERRORS if told[kind]},
    )
