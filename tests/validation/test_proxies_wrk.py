"""What wrk is given, and what is read from its output."""

from __future__ import annotations

import json

import pytest

from bench.errors import UserError
from bench.load.accuracy.answers import chat_body
from validation.proxy_load import parse, script

# As wrk 4.1.0 prints it, with the line of the script at the end.
OUTPUT = """\
Running 3s test @ http://127.0.0.1:18101/v1/chat/completions
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.20ms    1.02ms  21.30ms   91.00%
  59234 requests in 3.00s, 66.12MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 12

RESULT {"requests":59234,"duration_us":3001000,"p50_us":3105,"p99_us":7250,\
"connect":0,"read":3,"write":0,"status":12,"timeout":1}
"""


def test_figures_are_read_in_seconds() -> None:
    load = parse(OUTPUT)
    assert load.requests == 59234
    assert load.duration_s == pytest.approx(3.001)
    assert load.p50_s == pytest.approx(0.003105)
    assert load.p99_s == pytest.approx(0.00725)


def test_errors_are_kept_by_kind_and_zeros_are_not() -> None:
    assert parse(OUTPUT).errors == {"read": 3, "status": 12, "timeout": 1}


def test_a_clean_run_has_no_errors() -> None:
    clean = OUTPUT.replace('"read":3', '"read":0').replace('"status":12', '"status":0')
    assert parse(clean.replace('"timeout":1', '"timeout":0')).errors == {}


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        ("unable to connect to 127.0.0.1:9 Connection refused\n", "Connection refused"),
        ("", "it printed nothing"),
    ],
)
def test_what_wrk_says_instead_of_a_result_is_told(output: str, seen: str) -> None:
    with pytest.raises(UserError, match=f"wrk did not measure: .*{seen}"):
        parse(output)


@pytest.mark.parametrize("stream", [False, True])
def test_the_script_posts_the_body_as_it_is(stream: bool) -> None:
    text = script(chat_body(stream=stream))
    quoted = text.partition("[==[")[2].partition("]==]")[0]
    assert json.loads(quoted)["stream"] is stream
    assert "%%" not in text
