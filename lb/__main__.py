"""`python -m lb`: start a balancer from the command line."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lb.access_log import check_target
from lb.discovery import Listed, Resolved, Source, WatchedFile
from lb.endpoint import authority, parse_endpoint, parse_targets
from lb.errors import UserError
from lb.keys import KeyFile, read_key
from lb.listening import listen_for
from lb.policies import POLICIES
from lb.server import serve
from lb.settings import GRACE_S, SLOW_START_S, Admission, Patience, Settings

logger = logging.getLogger("lb")

_ENDPOINTS = "VLLM_ENDPOINTS"
_INTERVAL = "METRICS_POLL_INTERVAL"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m lb --help")


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until a signal; 2 after one line on stderr if it could not start."""
    try:
        options = _parser().parse_args(argv)
        settings = _settings(options, environ)
        port = POLICIES[settings.policy].default_port if options.port is None else options.port
        listeners = listen_for(options.host, port, options.workers, reuse_port=options.reuse_port)
    except UserError as error:
        print(f"lb: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    logger.info(
        "%s with %d worker%s on http://%s",
        settings.policy,
        options.workers,
        "s" if options.workers > 1 else "",
        authority(options.host, listeners[0].getsockname()[1]),
    )
    serve(settings, listeners)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m lb",
        description="Balance OpenAI-compatible requests over vLLM replicas.",
        epilog="policies:\n"
        + "".join(
            f"  {name:<14} {entry.summary} (port {entry.default_port})\n"
            for name, entry in POLICIES.items()
        )
        + "\nIt serves every POST under /v1/, and GET /v1/models, /health, /ready and /metrics.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--policy", required=True, choices=POLICIES, help="how to choose a replica")
    parser.add_argument(
        "--endpoints",
        metavar="URL,URL",
        help="replicas, like http://127.0.0.1:8100, or 'URL weight=2' for one that takes twice "
        f"the load of others (default: ${_ENDPOINTS})",
    )
    parser.add_argument(
        "--endpoints-file",
        type=Path,
        metavar="FILE",
        help="replicas in place of that, one a line; changes to the file are followed",
    )
    parser.add_argument(
        "--endpoints-dns",
        metavar="URL",
        help="replicas in place of that: every address that the URL's host resolves to",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, metavar="N", help="0 takes any free one (default: by policy, below)"
    )
    parser.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes that serve clients and share what they know (default: %(default)s)",
    )
    parser.add_argument(
        "--reuse-port",
        action="store_true",
        help="share the port with a balancer that runs already and is to be replaced",
    )
    parser.add_argument(
        "--poll-interval",
        metavar="S",
        help=f"seconds between polls of a replica (default: ${_INTERVAL} or 1)",
    )
    admission, patience = Admission(), Patience()
    for option, field, default, text in (
        ("--max-in-flight", "N", admission.in_flight, "requests on one replica at a time"),
        ("--max-in-flight-total", "N", admission.in_flight_total, "requests on all together"),
        ("--max-queued", "N", admission.queued, "requests of a model that wait for a place"),
        ("--max-queued-per-tenant", "N", admission.queued_per_tenant, "of these, one tenant's"),
    ):
        parser.add_argument(
            option, type=_count, default=default, metavar=field, help=f"{text} (default: {default})"
        )
    for option, default_s, text in (
        ("--queue-timeout", admission.queue_s, "wait for a place, after which it is a 429"),
        ("--first-byte-timeout", patience.first_byte_s, "wait for an answer to begin"),
        ("--stall-timeout", patience.stall_s, "wait for more of an answer"),
        ("--slow-start", SLOW_START_S, "let a replica's share grow after it has come up"),
        ("--drain-delay", 0.0, "go on accepting after SIGTERM, while /ready says no"),
        ("--grace", GRACE_S, "let requests end after that"),
    ):
        parser.add_argument(
            option,
            type=_duration,
            default=default_s,
            metavar="S",
            help=f"seconds to {text} (default: {default_s:g})",
        )
    parser.add_argument(
        "--access-log",
        metavar="FILE",
        help='append a line of JSON for each request; "-" is stdout (default: none is written)',
    )
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="serve only clients with one of these keys: lines of 'NAME KEY' or 'NAME sha256:HEX'",
    )
    parser.add_argument(
        "--upstream-api-key-file",
        type=Path,
        metavar="FILE",
        help="the key that replicas get, in place of what clients send",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="make tie-breaks repeatable (default: random)"
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="least level to log (default: %(default)s)",
    )
    return parser


def _settings(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    interval, interval_source = _option_or_variable(
        options.poll_interval, "--poll-interval", environ, _INTERVAL
    )
    key_file = options.upstream_api_key_file
    # Mistakes in these are to be told now, and not by a process that serves.
    if options.api_keys is not None:
        KeyFile(options.api_keys)
    if options.access_log is not None:
        check_target(options.access_log)
    return Settings(
        policy=options.policy,
        source=_source(options, environ),
        workers=options.workers,
        poll_interval_s=1.0 if interval is None else _seconds(interval, interval_source),
        seed=options.seed,
        admission=Admission(
            in_flight=options.max_in_flight,
            in_flight_total=options.max_in_flight_total,
            queued=options.max_queued,
            queued_per_tenant=options.max_queued_per_tenant,
            queue_s=options.queue_timeout,
        ),
        patience=Patience(options.first_byte_timeout, options.stall_timeout),
        slow_start_s=options.slow_start,
        drain_delay_s=options.drain_delay,
        grace_s=options.grace,
        access_log=options.access_log,
        api_keys=options.api_keys,
        replica_key=None if key_file is None else read_key(key_file),
    )


def _source(options: argparse.Namespace, environ: Mapping[str, str]) -> Source:
    """Where replicas are listed; the variable stands in where no option is given."""
    given = {
        "--endpoints": options.endpoints,
        "--endpoints-file": options.endpoints_file,
        "--endpoints-dns": options.endpoints_dns,
    }
    used = [name for name, value in given.items() if value is not None]
    if len(used) > 1:
        raise UserError(f"{' and '.join(used)} exclude each other, give one of them")
    if options.endpoints_file is not None:
        watched = WatchedFile(options.endpoints_file)
        watched.read()
        return watched
    if options.endpoints_dns is not None:
        return Resolved(parse_endpoint(options.endpoints_dns, "--endpoints-dns"))
    listed, source = _option_or_variable(options.endpoints, "--endpoints", environ, _ENDPOINTS)
    if listed is None:
        raise UserError(f"no endpoints, give --endpoints URL,URL or set {_ENDPOINTS}")
    return Listed(parse_targets(listed, source))


def _option_or_variable(
    given: str | None, option: str, environ: Mapping[str, str], variable: str
) -> tuple[str | None, str]:
    """The value and where it is from; an empty variable counts as not set."""
    if given is not None:
        return given, option
    return environ.get(variable) or None, variable


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
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


def _seconds(text: str, source: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(f"{source}: {text!r} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
