"""The client over TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from bench.records import ErrorKind
from tests.bench.load_source import ANSWER, CHUNKED, LAST_CHUNK, Call, chunk, fetch, source


async def answer_in_pieces(call: Call) -> None:
    """The answer, with more in one write than a record of TLS holds."""
    padding = b": " + b"x" * 100_000 + b"\n\n"
    await call.write(CHUNKED + chunk(padding))
    for byte in ANSWER:
        await call.write(chunk(bytes([byte])))
    await call.write(LAST_CHUNK)


def context(authority: trustme.CA, host: str) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(made)
    return made


def trust(authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `authority` the only one of this process, as a company's users do."""
    file = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def test_an_answer_over_tls_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trust(authority, tmp_path, monkeypatch)
    with source(answer_in_pieces, tls=context(authority, "127.0.0.1")) as served:
        sample = fetch(served.url)
    assert (sample.error, sample.detail, len(sample.chunk_s)) == (None, None, 2)
    assert sample.first_token_s is not None
    (call,) = served.calls
    assert call.prompt == "hello"


@pytest.mark.parametrize("trusted", [True, False], ids=["another host", "unknown authority"])
def test_a_certificate_that_does_not_hold_is_a_failure_to_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    authority = trustme.CA()
    trust(authority if trusted else trustme.CA(), tmp_path, monkeypatch)
    host = "elsewhere.example" if trusted else "127.0.0.1"
    with source(answer_in_pieces, tls=context(authority, host)) as served:
        sample = fetch(served.url)
    assert sample.error is ErrorKind.CONNECT
    assert sample.detail is not None
    assert "certificate verify failed" in sample.detail
    assert sample.sent_s is None


def test_a_server_without_tls_is_a_failure_to_connect() -> None:
    with source(answer_in_pieces) as served:
        sample = fetch(served.url.replace("http:", "https:"), deadline_s=2.0)
    assert sample.error in {ErrorKind.CONNECT, ErrorKind.TIMEOUT}
    assert not served.calls
