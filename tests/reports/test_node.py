"""Node programs, and what npm's errors come down to; the texts are those of npm 11."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.progress import make_progress
from reports import node
from reports.node import NodeError, advice, allure, gist, run_node

SELF_SIGNED = """\
npm error code SELF_SIGNED_CERT_IN_CHAIN
npm error errno SELF_SIGNED_CERT_IN_CHAIN
npm error request to https://registry.example.invalid/allure failed, reason: self-signed \
certificate in certificate chain
npm error A complete log of this run can be found in: /home/me/.npm/_logs/debug-0.log
"""
UNVERIFIED = """\
npm error code UNABLE_TO_VERIFY_LEAF_SIGNATURE
npm error errno UNABLE_TO_VERIFY_LEAF_SIGNATURE
npm error request to https://registry.example.invalid/allure failed, reason: unable to verify \
the first certificate; if the root CA is installed locally, try running Node.js with --use-system-ca
npm error A complete log of this run can be found in: /home/me/.npm/_logs/debug-0.log
"""
NO_NAME = """\
npm error code ENOTFOUND
npm error syscall getaddrinfo
npm error errno ENOTFOUND
npm error network request to https://registry.example.invalid/allure failed, reason: \
getaddrinfo ENOTFOUND proxy.example.invalid
npm error network This is a problem related to network connectivity.
npm error network In most cases you are behind a proxy or have bad network settings.
"""
REFUSED = """\
npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to https://registry.example.invalid/allure failed, reason: \
connect ECONNREFUSED 127.0.0.1:1
npm error     at ClientRequest.<anonymous> (/npm/node_modules/minipass-fetch/lib/index.js:130:14)
npm error   code: 'ECONNREFUSED',
"""
PASSWORD = """\
npm error code E407
npm error 407 Proxy Authentication Required - GET https://registry.example.invalid/allure.tgz
"""
FORBIDDEN = """\
npm error code E403
npm error 403 403 Forbidden - GET https://registry.example.invalid/allure.tgz
npm error 403 In most cases, you or one of your dependencies are requesting a package version
"""
SILENT = """\
npm error code FETCH_ERROR
npm error errno FETCH_ERROR
npm error network timeout at: http://registry.example.invalid/allure.tgz
"""
PLAIN = """\
npm error code ERR_SSL_WRONG_VERSION_NUMBER
npm error errno ERR_SSL_WRONG_VERSION_NUMBER
npm error request to https://127.0.0.1:9/allure.tgz failed, reason: 400D:error:0A00010B:SSL \
routines:tls_validate_record_header:wrong version number:../deps/openssl/tlsany_meth.c:77:
"""
OTHER_HOST = """\
npm error code ERR_TLS_CERT_ALTNAME_INVALID
npm error errno ERR_TLS_CERT_ALTNAME_INVALID
npm error request to https://localhost/allure failed, reason: Hostname/IP does not match \
certificate's altnames: Host: localhost. is not in the cert's altnames: DNS:other.example
"""

CA = ("NODE_EXTRA_CA_CERTS=<file>", "npm config set cafile <file>")
PROXY = ("HTTPS_PROXY=http://host:port", "`proxy` and `https-proxy`", "registry <address>")


@pytest.mark.parametrize(
    ("output", "why", "helps"),
    [
        (SELF_SIGNED, "certificate in certificate chain (SELF_SIGNED_CERT_IN_CHAIN)", CA),
        (UNVERIFIED, "the first certificate (UNABLE_TO_VERIFY_LEAF_SIGNATURE)", CA),
        (NO_NAME, "reason: getaddrinfo ENOTFOUND proxy.example.invalid", PROXY),
        (REFUSED, "reason: connect ECONNREFUSED 127.0.0.1:1", PROXY),
        (SILENT, "network timeout at: http://registry.example.invalid/allure.tgz", PROXY),
        (PASSWORD, "407 Proxy Authentication Required", ("http://user:password@host:port",)),
        (FORBIDDEN, "403 403 Forbidden - GET https://registry", ("registry <address>",)),
        (PLAIN, "(ERR_SSL_WRONG_VERSION_NUMBER)", ("HTTPS_PROXY", "`registry`")),
        (OTHER_HOST, "(ERR_TLS_CERT_ALTNAME_INVALID)", ("`registry`",)),
    ],
)
def test_an_installation_that_fails_is_told_with_its_cause_and_the_setting_that_helps(
    tmp_path: Path, output: str, why: str, helps: Sequence[str]
) -> None:
    (tmp_path / "package-lock.json").write_text("{}")

    def npm(arguments: Sequence[str], folder: Path) -> None:
        raise NodeError(gist(output))

    with pytest.raises(UserError) as caught:
        allure(make_progress(), tmp_path, npm)
    told = str(caught.value)
    assert why in told
    assert all(setting in told for setting in helps)
    assert "results are kept" in told
    assert "--use-system-ca" not in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "code",
    [
        "SELF_SIGNED_CERT_IN_CHAIN",
        "DEPTH_ZERO_SELF_SIGNED_CERT",
        "UNABLE_TO_GET_ISSUER_CERT",
        "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
        "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
        "CERT_HAS_EXPIRED",
        "CERT_NOT_YET_VALID",
        "CERT_UNTRUSTED",
        "CERT_SIGNATURE_FAILURE",
    ],
)
def test_for_a_certificate_that_is_not_trusted_the_settings_of_a_ca_are_named(code: str) -> None:
    assert all(setting in advice(gist(f"npm error code {code}\n")) for setting in CA)


@pytest.mark.parametrize(
    "code",
    [
        *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT"),
        *("EHOSTUNREACH", "ENETUNREACH", "ERR_SOCKET_TIMEOUT", "E503"),
    ],
)
def test_for_a_registry_out_of_reach_the_settings_of_a_proxy_are_named(code: str) -> None:
    assert all(setting in advice(gist(f"npm error code {code}\n")) for setting in PROXY)


def test_an_unknown_error_has_no_advice() -> None:
    assert advice("EINTEGRITY") == ""


def test_a_ca_file_that_node_could_not_read_is_told() -> None:
    ignored = "Warning: Ignoring extra certs from `/none.pem`, load failed: error:80000002"
    told = gist(f"{ignored}\n{SELF_SIGNED}")
    assert "SELF_SIGNED_CERT_IN_CHAIN" in told
    assert told.endswith(ignored)


def test_a_node_program_that_fails_is_told_by_its_own_words(tmp_path: Path) -> None:
    program = "console.error('\\u001b[31mnpm error code E500\\u001b[39m'); process.exit(3)"
    with pytest.raises(NodeError, match=r"^code E500$"):
        run_node(["--eval", program], tmp_path)


def test_a_node_program_that_succeeds_runs_in_its_folder(tmp_path: Path) -> None:
    run_node(["--eval", "require('fs').writeFileSync('here', '')"], tmp_path)
    assert (tmp_path / "here").is_file()


def test_a_node_program_that_hangs_is_told_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_LIMIT_S", 1.0)
    program = "console.error('npm error code ENOTFOUND'); setTimeout(() => {}, 60000)"
    with pytest.raises(NodeError, match=r"^no end after 1 s: code ENOTFOUND$"):
        run_node(["--eval", program], tmp_path)


def test_of_a_long_error_the_line_with_the_reason_is_told() -> None:
    told = "npm error code ENOTFOUND\nnpm error network request to x failed, reason: no such host\n"
    assert gist(told) == "network request to x failed, reason: no such host (ENOTFOUND)"
    assert gist("") == ""
