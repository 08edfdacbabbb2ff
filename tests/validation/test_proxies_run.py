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
from validation.proxies.__main__ import ROOT, compare, parser
from validation.proxies.columns import METRICS
from validation.proxies.cores import lay_out
from validation.proxies.peers import Peer, known_peers
from validation.proxies.running import Proxies
from validation.proxies.streams import while_streaming
from validation.proxies.wording import ONLY_PROXIES
from validation.sidebyside.running import Target

LAYOUT = lay_out(sorted(os.sched_getaffinity(0)))
PRESENT = [
    peer.name
    for peer in known_peers(ROOT)
    if peer.program is not None and peer.name in {"nginx", "haproxy"}
]


def ended(target: Target) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{target.port}/health", trust_env=False)
    except httpx.ConnectError:
        return True
    return False


def test_an_interrupt_leaves_no_server_behind(tmp_path: Path) -> None:
    started: list[Target] = []

    def interrupt() -> None:
        with closing(Proxies(ROOT, tmp_path, LAYOUT)) as servers:
            started.append(servers.start_source())
            assert not ended(started[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert ended(started[0])


def test_streams_are_held_open_while_one_looks(tmp_path: Path) -> None:
    with closing(Proxies(ROOT, tmp_path, LAYOUT)) as servers:
        source = servers.start_source()
        assert while_streaming(source.port, 50, lambda: "seen") == (50, "seen")


def test_a_proxy_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    def start(_: object) -> list[str]:
        return ["sh", "-c", "echo 'no such policy' >&2; exit 1"]

    broken = Peer("broken", Path("/bin/sh"), "", (), start)
    with closing(Proxies(ROOT, tmp_path, LAYOUT)) as servers:
        servers.start_source()
        with pytest.raises(UserError, match=f"broken ended: no such policy; see {tmp_path}"):
            servers.start(broken)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="no wrk: apt install wrk")
@pytest.mark.skipif(not PRESENT, reason="neither nginx nor haproxy: apt install nginx")
def test_a_short_run_fills_table_and_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, name = tmp_path / "record.json", PRESENT[0]
    compare(parser().parse_args(["--rounds", "1", "--window", "1", "--only", name]), output)
    assert ONLY_PROXIES in capsys.readouterr().out.replace("\n", " ")
    record = json.loads(output.read_text())
    assert list(record["figures"][name]) == [metric.key for metric in METRICS]
    assert record["rounds"][0][name]["errors"] == {}
    assert record["versions"][name] != "unknown"
    assert {"date", "cpu", "kernel"} <= record.keys()
