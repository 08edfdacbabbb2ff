"""CPU time and memory of process groups."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from bench.errors import UserError
from validation.sidebyside.procfs import Stat, listening_group, parse_stat, usage

# /proc/PID/stat of a kernel 6.18; name, group, user and system ticks, pages to fill in.
STAT = (
    "4242 ({name}) S 4000 {group} 4241 0 -1 4194560 1021 0 0 0 {user} {system} 70 80 20 0 3 0 "
    "901234 268435456 {pages} 18446744073709551615 1 1 0 0 0 0 0 4096 81 0 0 0 17 1 0 0 0 0 0"
)


def stat(*, group: int, user: int, system: int, pages: int, name: str = "nginx") -> str:
    return STAT.format(name=name, group=group, user=user, system=system, pages=pages)


@pytest.mark.parametrize("name", ["nginx", "a b", "nginx: worker", ":) S 1 2 (", "vllm::router"])
def test_a_process_is_read_whatever_its_name(name: str) -> None:
    text = stat(group=77, user=250, system=50, pages=1000, name=name)
    assert parse_stat(text) == Stat(group=77, user_ticks=250, kernel_ticks=50, resident_pages=1000)


def test_usage_sums_the_processes_of_one_group(tmp_path: Path) -> None:
    members = {
        "10": stat(group=10, user=100, system=20, pages=5),
        "11": stat(group=10, user=30, system=0, pages=7),
        "12": stat(group=12, user=999, system=999, pages=999),
    }
    for pid, text in members.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(text)
    (tmp_path / "13").mkdir()  # ended between listing and reading
    (tmp_path / "sys").mkdir()
    found = usage(10, tmp_path)
    assert found.cpu_s == pytest.approx(150 / os.sysconf("SC_CLK_TCK"))
    assert found.kernel_s == pytest.approx(20 / os.sysconf("SC_CLK_TCK"))
    assert found.rss_bytes == 12 * os.sysconf("SC_PAGE_SIZE")


def test_this_process_is_found_by_the_port_it_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        group = listening_group(listener.getsockname()[1])
    assert group == os.getpgid(0)
    assert usage(group).rss_bytes > 2**20


def test_a_port_that_nobody_listens_on_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}"):
            listening_group(port)
