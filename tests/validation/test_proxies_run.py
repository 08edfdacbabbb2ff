"""Real servers: started, measured, and gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from bench.errors import UserError
from bench.load.accuracy.running import LocalServer
from validation.__main__ import parser
from validation.harness import ROOT, Program
from validation.programs import Proxy, known_proxies
from validation.proxies import COMPARISON, compare, lay_out, start_proxy, start_source
from validation.proxy_load import while_streaming
from validation.servers import Servers

LAYOUT = lay_out(sorted(os.sched_getaffinity(0)))
PRESENT = [
    one.name
    for one in known_proxies(ROOT)
    if one.path is not None and one.name in {"nginx", "haproxy"}
]


def ended(target: LocalServer) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{target.port}/health", trust_env=False)
    except httpx.ConnectError:
        return True
    return False


def test_an_interrupt_leaves_no_server_behind(tmp_path: Path) -> None:
    started: list[LocalServer] = []

    def interrupt() -> None:
        with closing(Servers(tmp_path)) as servers:
            started.append(start_source(servers, LAYOUT))
            assert not ended(started[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert ended(started[0])


def test_streams_are_held_open_while_one_looks(tmp_path: Path) -> None:
    with closing(Servers(tmp_path)) as servers:
        source = start_source(servers, LAYOUT)
        assert while_streaming(source.port, 50, lambda: "seen") == (50, "seen")


def test_streams_that_end_do_not_run(tmp_path: Path) -> None:
    with closing(Servers(tmp_path)) as servers:
        source = start_source(servers, LAYOUT)
        assert while_streaming(source.port, 5, servers.close)[0] == 0


def test_a_proxy_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    def start(_: object) -> list[str]:
        return ["sh", "-c", "echo 'no such policy' >&2; exit 1"]

    broken: Proxy = Program("broken", Path("/bin/sh"), "", lambda _: "", start)
    with closing(Servers(tmp_path)) as servers:
        source = start_source(servers, LAYOUT)
        with pytest.raises(UserError, match=f"broken ended: no such policy; see {tmp_path}"):
            start_proxy(servers, broken, source.port, tmp_path, LAYOUT)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="no wrk: apt install wrk")
@pytest.mark.skipif(not PRESENT, reason="neither nginx nor haproxy: apt install nginx")
def test_a_short_run_fills_table_and_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, name = tmp_path / "record.json", PRESENT[0]
    compare(
        parser().parse_args(["proxies", "--rounds", "1", "--window", "1", "--only", name]), output
    )
    assert COMPARISON.note in capsys.readouterr().out.replace("\n", " ")
    record = json.loads(output.read_text())
    assert list(record["figures"][name]) == [metric.key for metric in COMPARISON.metrics]
    assert record["rounds"][0][name]["errors"] == {}
    assert record["versions"][name] != "unknown"
    assert {"date", "cpu", "kernel"} <= record.keys()
