"""The one line that says why a process died, from logs as they really look."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.processes.guarded import LIMIT, cause_of_death, error_in_log
from bench.processes.pip_errors import causes

ENGINE_LOG = """\
(APIServer pid=12) INFO 01-31 23:59:58 [model.py:692] Resolved architecture: LlamaForCausalLM
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315] EngineCore failed to start.
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315] Traceback (most recent call last):
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315]     raise ValueError(
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315] ValueError: No available memory
(APIServer pid=12) Traceback (most recent call last):
(APIServer pid=12) RuntimeError: Engine core initialization failed. See root cause above.
"""
PIP_LOG = """\
Looking in indexes: https://index.example/simple
ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu
ERROR: No matching distribution found for torch==2.13.0+cpu
WARNING: There was an error checking the latest version of pip.
"""
KILLED_LOG = """\
(APIServer pid=12) INFO 01-31 23:59:58 [loggers.py:315] Engine 000: Running: 3 reqs
(APIServer pid=12) WARNING 01-31 23:59:58 [arg_utils.py:1812] The global random seed is set to 0.
INFO:     Application startup complete.
"""
PYTHON_LOG = """\
Traceback (most recent call last):
  File "x.py", line 1, in <module>
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (99999) is greater than 4096
"""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (ENGINE_LOG, "ValueError: No available memory"),
        (PIP_LOG, "ERROR: No matching distribution found for torch==2.13.0+cpu"),
        ("lb: port 8080 is taken\n", "lb: port 8080 is taken"),
        ("", "its log shows no error"),
        (KILLED_LOG, "its log shows no error"),
        (
            PYTHON_LOG,
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig: "
            "Value error, User-specified max_model_len (99999) is greater than 4096",
        ),
    ],
)
def test_the_root_cause_is_told(tmp_path: Path, log: str, told: str) -> None:
    file = tmp_path / "log"
    file.write_text(log)
    assert error_in_log(file) == told


def test_an_error_that_only_points_to_another_is_told_when_it_is_alone(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("RuntimeError: Engine core initialization failed. See root cause above.\n")
    assert error_in_log(file).startswith("RuntimeError: Engine core")


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("ValueError: " + "x" * 5000)
    assert len(error_in_log(file)) == LIMIT


def test_a_missing_log_is_told(tmp_path: Path) -> None:
    assert error_in_log(tmp_path / "log") == "its log shows no error"


TORCH_LOG = "[W1123 19:00:36.711357472 utils.cpp:68] Warning: NUMA binding: strictly bound.\n"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (ENGINE_LOG, "ValueError: No available memory"),
        (KILLED_LOG + TORCH_LOG, "no error in its log, so it was killed from outside"),
        ("", "no error in its log, so it was killed from outside"),
    ],
)
def test_what_ran_well_and_is_gone_died_of_an_error_or_was_killed(
    tmp_path: Path, log: str, told: str
) -> None:
    file = tmp_path / "log"
    file.write_text(log)
    assert cause_of_death(file) == told


NOT_FOUND = """\
ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu \
(from versions: none)
ERROR: No matching distribution found for torch==2.13.0+cpu
"""
LOOKING = "Looking in indexes: https://index.example.invalid/simple\n"
CONFLICT = """\
ERROR: Cannot install torch==2.13.0+cpu because these package versions have conflicting \
dependencies.

The conflict is caused by:
    The user requested torch==2.13.0+cpu
    The user requested (constraint) torch==2.9.0

Additionally, some packages in these conflicts have no matching distributions available for \
your environment:
    torch

To fix this you could try to:
1. loosen the range of package versions you've specified
2. remove package versions to allow pip to attempt to solve the dependency conflict

ERROR: ResolutionImpossible: for help visit https://pip.example.invalid/dependency-conflicts
"""
NO_NAME_23 = (
    "NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: "
    "Failed to establish a new connection: [Errno -2] Name or service not known')"
)
NO_NAME_26 = (
    "NameResolutionError(\"HTTPSConnection(host='index.example.invalid', port=443): Failed to "
    "resolve 'index.example.invalid' ([Errno -2] Name or service not known)\")"
)
REFUSED_23 = NO_NAME_23.replace(
    "[Errno -2] Name or service not known", "[Errno 111] Connection refused"
)
UNTRUSTED = (
    "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify "
    "failed: self-signed certificate in certificate chain (_ssl.c:1006)'))"
)


def broken(by: str, tries_left: int = 0, path: str = "/simple/torch/") -> str:
    """What pip says of a connection that failed."""
    return (
        f"WARNING: Retrying (Retry(total={tries_left}, connect=None, read=None, redirect=None, "
        f"status=None)) after connection broken by '{by}': {path}\n"
    )


def seen(said: str) -> list[str]:
    return [cause.text for cause in causes(said)]


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (NO_NAME_23, "the name of index.example.invalid could not be resolved (Name or service"),
        (NO_NAME_26, "the name of index.example.invalid could not be resolved (Name or service"),
        (
            NO_NAME_26.replace(
                "-2] Name or service not known", "-3] Temporary failure in name resolution"
            ),
            "index.example.invalid could not be resolved (Temporary failure in name resolution)",
        ),
        (REFUSED_23, "index.example.invalid refuses the connection"),
        (
            "NewConnectionError(\"HTTPSConnection(host='127.0.0.1', port=1): Failed to establish a "
            'new connection: [Errno 111] Connection refused")',
            "127.0.0.1 refuses the connection",
        ),
        (
            UNTRUSTED,
            "the certificate of index.example.invalid is not trusted "
            "(self-signed certificate in certificate chain)",
        ),
        (
            "SSLError(CertificateError(\"hostname 'index.example.invalid' doesn't match either of "
            "'a.example', 'b.example'\"))",
            "is not trusted (hostname 'index.example.invalid' doesn't match)",
        ),
        (
            "SSLError(SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number "
            "(_ssl.c:1006)'))",
            "index.example.invalid does not speak TLS as it should (WRONG_VERSION_NUMBER)",
        ),
        (
            "ReadTimeoutError(\"HTTPSConnectionPool(host='index.example.invalid', port=443): Read "
            'timed out. (read timeout=15.0)")',
            "index.example.invalid does not answer in time",
        ),
        (
            "ConnectTimeoutError(<HTTPSConnection(host='2001:db8::1', port=443) at 0x7f>, "
            "'Connection to 2001:db8::1 timed out. (connect timeout=2.0)')",
            "2001:db8::1 does not answer in time",
        ),
        (
            "ProtocolError('Connection aborted.', ConnectionResetError(104, 'Connection reset by "
            "peer'))",
            "the connection to index.example.invalid breaks off",
        ),
        (
            REFUSED_23.replace("[Errno 111] Connection refused", "[Errno 113] No route to host"),
            "index.example.invalid cannot be reached (No route to host)",
        ),
        (
            f"ProxyError('Cannot connect to proxy.', {REFUSED_23})",
            "the proxy cannot be reached (Connection refused)",
        ),
        (
            f"ProxyError('Cannot connect to proxy.', {NO_NAME_23})",
            "the proxy cannot be reached (Name or service not known)",
        ),
        (
            "ProxyError('Cannot connect to proxy.', TimeoutError('timed out'))",
            "the proxy cannot be reached (timed out)",
        ),
        (
            "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy "
            "Authentication Required'))",
            "the proxy asks for a password (407 Proxy Authentication Required)",
        ),
        (
            "OSError('Tunnel connection failed: 403 Forbidden')",
            "the proxy refuses to pass on (403 Forbidden)",
        ),
    ],
)
def test_where_an_index_was_out_of_reach_pip_failed_for_that(by: str, told: str) -> None:
    (cause,) = causes(LOOKING + broken(by) + NOT_FOUND)
    assert told in cause.text
    assert cause.advice


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            "the disk is full",
        ),
        (
            "ERROR: Could not install packages due to an OSError: Could not find a suitable TLS CA "
            "certificate bundle, invalid path: /none.pem",
            "there is no CA file /none.pem",
        ),
        (
            "ERROR: HTTP error 403 while getting https://files.example.invalid/torch.whl (from "
            "https://index.example.invalid/simple/torch/)",
            "files.example.invalid answers with HTTP status 403",
        ),
        (
            "WARNING: The repository located at index.example.invalid is not a trusted or secure "
            "host and is being ignored. If this repository is available via HTTPS\n" + NOT_FOUND,
            "pip ignores index.example.invalid, which is not https",
        ),
        (
            "ERROR: Could not open requirements file: [Errno 2] No such file or directory: "
            "'/c.txt'",
            "pip's configuration names a file that cannot be opened, /c.txt",
        ),
        (
            "ERROR: Could not open constraint file: [Errno 2] No such file or directory: '/c.txt'",
            "pip's configuration names a file that cannot be opened, /c.txt",
        ),
        (
            "ERROR: No matching distribution found for torch==2.9.0 (from -c /etc/c.txt (line 3))",
            "the constraint file /etc/c.txt in pip's configuration conflicts",
        ),
        (
            "WARNING: Location '/none' is ignored: it is either a non-existing path or lacks a "
            "specific scheme.\n" + NOT_FOUND,
            "pip's find-links names /none, which is not there",
        ),
        (
            "error: connection-failed\n\n"
            "× Failed to connect to 127.0.0.1 while fetching https://127.0.0.1:1/torch.whl\n"
            "╰─> [Errno 111] Connection refused\n\nhint: Are you connected to the Internet?",
            "127.0.0.1 refuses the connection",
        ),
        (
            "error: incomplete-download\n\n× Download failed after 6 attempts because not enough "
            "bytes were received (6 bytes/5.0 kB)\n╰─> URL: https://files.example.invalid/torch.whl"
            "\n\nnote: This is an issue with network connectivity, not pip.",
            "the connection to files.example.invalid breaks off",
        ),
        (
            "error: externally-managed-environment\n\n× This environment is externally managed\n"
            "╰─> To install packages system-wide, try apt install\n\nhint: See PEP 668",
            "× This environment is externally managed: To install packages system-wide, try apt "
            "install",
        ),
        (
            NOT_FOUND,
            "no source that pip could read has torch==2.13.0+cpu for this Python",
        ),
        (
            NOT_FOUND.replace("versions: none", "versions: 2.12.0, 2.13.0"),
            "no source that pip could read has torch==2.13.0+cpu for this Python, the newest there "
            "is 2.13.0",
        ),
        ("ERROR: Hashes are required in --require-hashes mode", "Hashes are required in"),
        ("", "its log shows no error"),
    ],
)
def test_what_else_pip_fails_for_is_told_as_such(said: str, told: str) -> None:
    assert len(seen(said)) == 1
    assert seen(said)[0].startswith(told)


def test_of_a_file_that_could_not_be_fetched_the_host_is_told_once() -> None:
    said = broken(NO_NAME_23, path="/torch.whl") + (
        "ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host="
        "'files.example.invalid', port=443): Max retries exceeded with url: /torch.whl (Caused by "
        f"{NO_NAME_23})\n"
    )
    (told,) = seen(LOOKING + said)
    assert told.startswith("the name of files.example.invalid could not be resolved")


def test_a_constraint_of_pips_configuration_is_told_with_the_way_out() -> None:
    (cause,) = causes(CONFLICT)
    assert cause.text.startswith("nothing found fits torch==2.9.0, which a constraint file in")
    assert "PIP_CONSTRAINT" in cause.advice
    assert "`pip config list`" in cause.advice


def test_an_index_out_of_reach_is_told_before_a_constraint() -> None:
    first, second = seen(LOOKING + broken(NO_NAME_26) + CONFLICT)
    assert "could not be resolved" in first
    assert "a constraint file" in second


def test_a_failure_that_pip_got_over_is_no_cause() -> None:
    (told,) = seen(LOOKING + broken(REFUSED_23, tries_left=4) + NOT_FOUND)
    assert told.startswith("no source that pip could read")


def test_each_index_out_of_reach_is_told() -> None:
    said = (
        "Looking in indexes: https://me:****@a.example.invalid/simple, https://b.example.invalid/b\n"
        + broken(NO_NAME_23)
        + broken(NO_NAME_23, path="/b/torch/")
        + NOT_FOUND
    )
    assert [told.split()[3] for told in seen(said)] == ["a.example.invalid", "b.example.invalid"]


def test_indexes_that_pips_words_do_not_tell_apart_are_both_named() -> None:
    said = (
        "Looking in indexes: https://a.example.invalid/simple, https://b.example.invalid/simple\n"
    )
    assert seen(said + broken(REFUSED_23) + NOT_FOUND) == [
        "a.example.invalid or b.example.invalid refuses the connection"
    ]


def test_of_pips_own_index_no_name_is_told() -> None:
    assert seen(broken(REFUSED_23) + NOT_FOUND) == ["pip's index refuses the connection"]
