"""`python -m validation proxies` as a user meets it, short of measuring."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.environments.peers import Place
from bench.errors import UserError
from bench.records import Replica
from validation.__main__ import main
from validation.harness import ROOT, Program, choose
from validation.programs import Proxy, known_proxies


def program(name: str, program: Path | None = None) -> Proxy:
    return Program(name, program, f"apt install {name}", lambda _: "", lambda _: [])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--rounds", "0"], "--rounds: '0' is not a whole number from 1"),
        (["--window", "2.5"], "--window: '2.5' is not a whole number from 1"),
        (["--colour"], "unrecognized arguments: --colour"),
        (["--only", "lb,apache"], "--only: 'apache' is not one of lb, nginx, haproxy"),
        (["--only", ""], "--only: '' is not one of"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["proxies", *arguments]) == 2
    _one_line(capsys, expected)


def test_without_wrk_the_line_that_installs_it_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["proxies"]) == 2
    _one_line(capsys, "apt install wrk")


def test_with_no_proxy_at_all_the_lines_that_install_them_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "wrk").write_text("#!/bin/sh\n")
    (tmp_path / "wrk").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        "validation.proxies.known_proxies",
        lambda _: (program("nginx"), program("haproxy")),
    )
    assert main(["proxies"]) == 2
    _one_line(capsys, "install it with: apt install nginx; haproxy is absent")


def test_programs_keep_their_order_however_they_are_chosen() -> None:
    known = [program(name, Path(name)) for name in "abc"]
    assert [one.name for one in choose(known, "c, a", "proxy").present] == ["a", "c"]
    assert choose(known, None, "proxy").present == tuple(known)


def test_an_unknown_program_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="'x' is not one of a, b"):
        choose([program("a"), program("b")], "a,x", "proxy")


def test_a_router_is_absent_until_its_environment_has_it(tmp_path: Path) -> None:
    found = {one.name: one for one in known_proxies(tmp_path)}
    assert found["vllm-router"].path is None
    assert found["vllm-router"].install.endswith("install vllm-router==0.1.17")
    assert found["lb"].path is not None


@pytest.mark.parametrize("proxy", known_proxies(ROOT), ids=lambda one: one.name)
def test_a_proxy_gets_its_port_and_every_replica(proxy: Proxy, tmp_path: Path) -> None:
    addresses = ("127.0.0.1:18100", "127.0.0.2:18100")
    replicas = tuple(Replica("m", address, f"http://{address}") for address in addresses)
    command = " ".join(proxy.start(Place(18101, 18102, replicas, tmp_path)))
    files = " ".join(path.read_text() for path in tmp_path.iterdir())
    assert all(address in command + files for address in addresses)
    assert "18101" in command + files


def _one_line(capsys: pytest.CaptureFixture[str], expected: str) -> None:
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert expected in output.err
