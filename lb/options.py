"""The options of `python -m lb`, and what their values may be."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NoReturn

from lb.downstream import Limits
from lb.errors import UserError
from lb.exchange import Patience
from lb.policies import POLICIES
from lb.router import Admission
from lb.settings import GRACE_S, SLOW_START_S

ENDPOINTS_VARIABLE = "VLLM_ENDPOINTS"
INTERVAL_VARIABLE = "METRICS_POLL_INTERVAL"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_MOST_WORKERS = 256


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
        "/ready and /metrics itself.\ndocs/reference/balancer.md lists all routes, and tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--policy", required=True, choices=POLICIES, help="how to choose a replica")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="make tie-breaks repeatable (default: random)"
    )
    _add_replicas(parser.add_argument_group("replicas"))
    _add_listening(parser.add_argument_group("processes"))
    _add_bounds(parser.add_argument_group("bounds, on requests"))
    _add_times(parser.add_argument_group("times, in seconds"))
    _add_clients(parser.add_argument_group("clients and logs"))
    return parser


def _add_replicas(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--endpoints",
        metavar="URL,URL",
        help="like http://127.0.0.1:8100 or https://host/prefix, or 'URL weight=2' for one that "
        f"takes twice the load of others (default: ${ENDPOINTS_VARIABLE})",
    )
    group.add_argument(
        "--endpoints-file",
        type=Path,
        metavar="FILE",
        help="in place of that, one a line; changes to the file are followed",
    )
    group.add_argument(
        "--endpoints-dns",
        metavar="URL",
        help="in place of that: every address that the URL's host resolves to",
    )
    group.add_argument(
        "--endpoints-kubernetes",
        metavar="SERVICE",
        help="in place of that: the ready endpoints of [NAMESPACE/]SERVICE[:PORT], watched from "
        "within a pod",
    )
    group.add_argument(
        "--service-account",
        type=Path,
        default=SERVICE_ACCOUNT,
        metavar="DIR",
        help="where the pod has token, ca.crt and namespace (default: %(default)s)",
    )
    group.add_argument(
        "--upstream-ca-file",
        type=Path,
        metavar="FILE",
        help="the CAs, in PEM, whose certificates https replicas may have (default: the system's)",
    )
    group.add_argument(
        "--poll-interval",
        metavar="S",
        help=f"seconds between polls of a replica (default: ${INTERVAL_VARIABLE} or 1)",
    )


def _add_listening(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    group.add_argument(
        "--port", type=_port, metavar="N", help="0 takes any free one (default: by policy, below)"
    )
    group.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="processes that serve clients and share what they know (default: %(default)s)",
    )
    group.add_argument(
        "--reuse-port",
        action="store_true",
        help="take the port over from a balancer that runs already with this option, or share it",
    )


def _add_bounds(group: argparse._ArgumentGroup) -> None:
    default = Admission()
    for option, value, text in (
        ("--max-in-flight", default.in_flight, "on one replica at a time"),
        ("--max-in-flight-total", default.in_flight_total, "on all replicas together"),
        ("--max-queued", default.queued, "that wait for a place, of one model"),
        ("--max-queued-per-tenant", default.queued_per_tenant, "of these, one tenant's"),
    ):
        group.add_argument(
            option, type=_count, default=value, metavar="N", help=f"{text} (default: {value})"
        )
    group.add_argument(
        "--max-body-memory",
        type=_mebibytes,
        default=Limits().bodies_bytes // 2**20,
        metavar="MIB",
        help="for the bodies of all requests of a process together (default: %(default)s)",
    )


def _add_times(group: argparse._ArgumentGroup) -> None:
    admission, patience = Admission(), Patience()
    for option, default_s, text in (
        ("--queue-timeout", admission.queue_s, "to wait for a place; after that it is a 429"),
        ("--first-byte-timeout", patience.first_byte_s, "to wait for an answer to begin"),
        ("--stall-timeout", patience.stall_s, "to wait for more of an answer"),
        ("--slow-start", SLOW_START_S, "in which the share of a new replica grows"),
        ("--drain-delay", 0.0, "to go on accepting after SIGTERM, while /ready says no"),
        ("--grace", GRACE_S, "after that, to let requests end"),
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
        help="serve only clients with one of these keys: lines of 'NAME KEY' or 'NAME sha256:HEX'",
    )
    group.add_argument(
        "--upstream-api-key-file",
        type=Path,
        metavar="FILE",
        help="the key that replicas get, in place of what clients send",
    )
    group.add_argument(
        "--access-log",
        metavar="FILE",
        help='append a line of JSON for each request; "-" is stdout (default: none is written)',
    )
    group.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="least level to log to stderr (default: %(default)s)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _mebibytes(text: str) -> int:
    least = Limits().body_bytes // 2**20
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of at least {least}, the most MiB of one body"
        )
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_WORKERS}")
    return int(text)


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, give a number up to 65535")
    return int(text)
