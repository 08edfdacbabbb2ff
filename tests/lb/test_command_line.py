"""`python -m lb` as a user meets it."""

from __future__ import annotations

import asyncio
import signal
import socket

import httpx
import pytest

from lb.__main__ import main
from tests.lb.running import started
from tests.lb.scripted import ScriptedReplica, Streams

URL = "http://127.0.0.1:8100"
NOWHERE = ["--policy", "queue-aware"]
QUEUE_AWARE = ["--policy", "queue-aware", "--endpoints", URL]


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ([], {}, "arguments are required: --policy"),
        (["--policy", "fastest"], {}, "invalid choice: 'fastest' (choose from 'round-robin'"),
        (["--policy", "round-robin"], {}, "no endpoints, give --endpoints"),
        (["--policy", "round-robin"], {"VLLM_ENDPOINTS": ""}, "no endpoints, give --endpoints"),
        (["--policy", "round-robin", "--endpoints", " , "], {}, "--endpoints names no endpoints"),
        (["--policy", "round-robin"], {"VLLM_ENDPOINTS": "x"}, "VLLM_ENDPOINTS: 'x' is not an"),
        ([*QUEUE_AWARE, "--poll-interval", "0"], {}, "--poll-interval: '0' is not a number"),
        ([*QUEUE_AWARE, "--poll-interval", "nan"], {}, "--poll-interval: 'nan' is not a"),
        (QUEUE_AWARE, {"METRICS_POLL_INTERVAL": "1s"}, "METRICS_POLL_INTERVAL: '1s' is not a"),
        ([*QUEUE_AWARE, "--port", "70000"], {}, "'70000' is not a port"),
        ([*QUEUE_AWARE, "--seed", "x"], {}, "argument --seed: invalid int value: 'x'"),
        ([*QUEUE_AWARE, "--log-level", "loud"], {}, "--log-level: invalid choice: 'loud'"),
        ([*QUEUE_AWARE, "--api-keys", "/nowhere"], {}, "/nowhere cannot be read: No such file"),
        ([*QUEUE_AWARE, "--api-keys", "/dev/null"], {}, "/dev/null has no keys, give one on"),
        ([*QUEUE_AWARE, "--upstream-api-key-file", "/dev/null"], {}, "does not hold one key"),
        ([*QUEUE_AWARE, "--upstream-ca-file", "/nowhere"], {}, "/nowhere cannot be used: No such"),
        ([*QUEUE_AWARE, "--upstream-ca-file", __file__], {}, "it holds no certificates in PEM"),
        ([*QUEUE_AWARE, "--access-log", "/"], {}, "--access-log / cannot be written: Is a dir"),
        ([*QUEUE_AWARE, "--colour"], {}, "unrecognized arguments: --colour"),
        ([*QUEUE_AWARE, "--workers", "0"], {}, "'0' is not a number from 1 to 256"),
        ([*QUEUE_AWARE, "--grace", "-1"], {}, "--grace: '-1' is not a number of seconds"),
        ([*QUEUE_AWARE, "--endpoints-dns", URL], {}, "--endpoints and --endpoints-dns exclude"),
        ([*NOWHERE, "--endpoints-file", "/no/file"], {}, "/no/file cannot be read: No such file"),
        ([*NOWHERE, "--endpoints-dns", "replicas"], {}, "--endpoints-dns: 'replicas' is not an"),
        ([*QUEUE_AWARE, "--endpoints-kubernetes", "x"], {}, "--endpoints and --endpoints-kuber"),
        ([*QUEUE_AWARE, "--host", "256.0.0.1"], {}, "--host '256.0.0.1' cannot be resolved"),
        ([*QUEUE_AWARE, "--host", "192.0.2.1"], {}, "cannot listen on 192.0.2.1 port 8091"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    environ: dict[str, str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments, environ) == 2
    _one_line(capsys, expected)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8100",
        "ftp://127.0.0.1:8100",
        "http://",
        "http://:8100",
        "http://127.0.0.1:eight",
        "http://127.0.0.1:81000",
        "http://127.0.0.1:0",
        "http://[::1",
        "http://127.0.0.1:8100/v1",
        "https://127.0.0.1:8100/engines/v1/",
        "http://127.0.0.1:8100/a//b",
        "http://127.0.0.1:8100/a b",
        "http://127.0.0.1:8100/ä",
        "http://127.0.0.1:8100?x=1",
        "http://user:secret@127.0.0.1:8100",
        "http://two words:8100",
        "http://ümlaut:8100",
    ],
)
def test_a_malformed_endpoint_is_named(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--policy", "round-robin", "--endpoints", f"{URL},{url}"]
    assert main(arguments, {}) == 2
    _one_line(capsys, f"--endpoints: {url!r} is not an endpoint like http://")


def test_an_endpoint_that_is_given_twice_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policy", "round-robin", "--endpoints", f"{URL},{URL}/"], {}) == 2
    _one_line(capsys, f"{URL} is given twice")


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([*QUEUE_AWARE, "--port", str(port)], {}) == 2
    _one_line(capsys, f"port {port} on 127.0.0.1 is in use")


def test_help_names_policies_ports_and_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"], {})
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    for word in ("queue-depth", "8080", "8081", "8082", "VLLM_ENDPOINTS", "METRICS_POLL_INTERVAL"):
        assert word in text


def _one_line(capsys: pytest.CaptureFixture[str], expected: str) -> None:
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("lb: ")
    assert output.err.count("\n") == 1
    assert expected in output.err


@pytest.mark.anyio
async def test_variables_stand_in_for_options() -> None:
    variables = {"METRICS_POLL_INTERVAL": "0.01"}
    async with ScriptedReplica() as replica, asyncio.timeout(30):
        variables["VLLM_ENDPOINTS"] = replica.url
        async with started("--policy", "queue-depth", **variables) as running:
            health = await running.health()
            while replica.polls < 35:  # at the default interval this takes 35 s
                await asyncio.sleep(0.01)
    assert health["policy"] == "queue-depth"
    assert [entry["url"] for entry in health["replicas"]] == [replica.url]


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0_after_open_streams(number: signal.Signals) -> None:
    streams = Streams()
    async with (
        ScriptedReplica(streams) as replica,
        started("--policy", "queue-aware", "--endpoints", replica.url) as running,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        asyncio.timeout(30),
        client.stream("POST", f"{running.url}/v1/completions", json={"model": "m"}) as response,
    ):
        running.process.send_signal(number)
        while await _accepts(running.url):
            await asyncio.sleep(0.02)
        streams.finish.set()
        assert (await response.aread()).endswith(b"data: [DONE]\n\n")
        assert await running.process.wait() == 0


async def _accepts(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True
