"""The options of `python -m lb`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lb.errors import UserError
from lb.http.downstream import Limits
from lb.policies import POLICIES
from lb.routing.exchange import Timeouts
from lb.routing.router import Admission
from lb.version import version

ENDPOINTS_VARIABLE = "VLLM_ENDPOINTS"
INTERVAL_VARIABLE = "METRICS_POLL_INTERVAL"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# How long requests may take to end after SIGTERM or SIGINT.
GRACE_S = 5.0
# A new replica has cold caches, and nothing in flight: policies would send it too much.
SLOW_START_S = 10.0

_MAX_WORKERS = 256


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m lb --help")


def make_parser() -> argparse.ArgumentParser:
    """A parser that raises UserError for a mistake."""
    width = max(map(len, POLICIES))
    policies = "".join(
        f"  {name:<{width}}  {entry.summary} (port {entry.default_port})\n"
        for name, entry in POLICIES.items()
    )
    parser = _Parser(
        prog="python -m lb",
        description="Balance OpenAI-compatible requests over vLLM replicas.",
        epilog=f"policies:\n{policies}\nIt serves what vLLM serves, and /v1/models, /health, "
        "/ready and /metrics itself.\ndocs/reference/balancer.md lists all routes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lb {version()}")
    parser.add_argument(
        "--policy",
        required=True,
        choices=POLICIES,
        metavar="POLICY",
        help="how replicas are chosen, one of those below",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of random choices, so that they repeat (default: a new one at each start)",
    )
    _add_replicas(parser.add_argument_group("replicas"))
    _add_listening(parser.add_argument_group("processes"))
    _add_bounds(parser.add_argument_group("limits on requests"))
    _add_times(parser.add_argument_group("times, in seconds"))
    _add_clients(parser.add_argument_group("clients and logs"))
    return parser


def _add_replicas(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--endpoints",
        metavar="URL,URL",
        help="like http://127.0.0.1:8100 or https://host/prefix; 'URL weight=2' gets twice the "
        f"load of one without (default: ${ENDPOINTS_VARIABLE})",
    )
    group.add_argument(
        "--endpoints-file",
        type=Path,
        metavar="FILE",
        help="instead of --endpoints: a file with one URL on each line, read again when it changes",
    )
    group.add_argument(
        "--endpoints-dns",
        metavar="URL",
        help="instead of --endpoints: every address that this URL's host resolves to",
    )
    group.add_argument(
        "--endpoints-kubernetes",
        metavar="SERVICE",
        help="instead of --endpoints: the ready endpoints of [NAMESPACE/]SERVICE[:PORT,...]; "
        "works only in a pod",
    )
    group.add_argument(
        "--service-account",
        type=Path,
        default=SERVICE_ACCOUNT,
        metavar="DIR",
        help="folder with the pod's token, ca.crt and namespace (default: %(default)s)",
    )
    group.add_argument(
        "--upstream-ca-file",
        type=Path,
        metavar="FILE",
        help="CAs, in PEM, that sign the certificates of https replicas (default: the system's)",
    )
    group.add_argument(
        "--poll-interval",
        type=parse_interval,
        metavar="S",
        help=f"seconds between polls of a replica (default: ${INTERVAL_VARIABLE} or 1)",
    )


def _add_listening(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    group.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help="port to listen on, 0 for any free one (default: that of the policy, below)",
    )
    group.add_argument(
        "--workers",
        type=_whole(1, _MAX_WORKERS),
        default=1,
        metavar="N",
        help="number of processes that serve clients (default: %(default)s)",
    )
    group.add_argument(
        "--reuse-port",
        action="store_true",
        help="share the port with other balancers that have this option, or take it over",
    )


def _add_bounds(group: argparse._ArgumentGroup) -> None:
    default, limits = Admission(), Limits()
    for option, value, text in (
        ("--max-in-flight", default.in_flight, "requests in flight on one replica"),
        ("--max-in-flight-total", default.in_flight_total, "requests in flight on all replicas"),
        ("--max-queued", default.queued, "waiting requests for one model"),
        ("--max-queued-per-tenant", default.queued_per_tenant, "the same of one tenant"),
    ):
        group.add_argument(
            option, type=_whole(1), default=value, metavar="N", help=f"{text} (default: {value})"
        )
    group.add_argument(
        "--late-binding",
        action="store_true",
        help="let requests wait here, where tenants take turns, and not in replicas: one gets as "
        "many as it was seen to run at once while others waited, and a quarter more",
    )
    group.add_argument(
        "--fairness",
        choices=("requests", "tokens"),
        default=default.fairness,
        help="of what tenants whose requests wait get equal shares (default: %(default)s)",
    )
    group.add_argument(
        "--max-body-memory",
        type=_whole(limits.body_bytes // 2**20),
        default=limits.bodies_bytes // 2**20,
        metavar="MIB",
        help="memory of a process for the bodies of all its requests, at least the "
        f"{limits.body_bytes // 2**20} MiB that one body may have (default: %(default)s)",
    )


def _add_times(group: argparse._ArgumentGroup) -> None:
    admission, timeouts = Admission(), Timeouts()
    for option, default_s, text in (
        ("--queue-timeout", admission.queue_s, "time in the queue, after which there is a 429"),
        ("--first-byte-timeout", timeouts.first_byte_s, "until an answer has to begin"),
        ("--stall-timeout", timeouts.stall_s, "between two parts of an answer"),
        ("--slow-start", SLOW_START_S, "until a new replica gets its full share of the load"),
        ("--drain-delay", 0.0, "to accept clients after SIGTERM, with 503 at /ready"),
        ("--grace", GRACE_S, "after that for requests to end"),
    ):
        group.add_argument(
            option,
            type=_duration,
            default=default_s,
            metavar="S",
            help=f"{text} (default: {default_s:g})",
        )


def _add_clients(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="serve only clients with a key in this file: lines of 'NAME KEY' or 'NAME sha256:HEX'",
    )
    group.add_argument(
        "--upstream-api-key-file",
        type=Path,
        metavar="FILE",
        help="file with the key that replicas get instead of the client's",
    )
    group.add_argument(
        "--access-log",
        metavar="FILE",
        help='append a line of JSON for each request, "-" for stdout (default: no access log)',
    )
    group.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="lowest level of messages on stderr (default: %(default)s)",
    )


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A function that parses a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bounds}")
        return int(text)

    return parse


def parse_interval(text: str) -> float:
    """A number of seconds above 0. Raises ArgumentTypeError."""
    if not (seconds := _finite(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _duration(text: str) -> float:
    if not (seconds := _finite(text)) >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _finite(text: str) -> float:
    """The number; NaN if it is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, give a number up to 65535")
    return int(text)
