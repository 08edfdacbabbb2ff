"""What the command line and the environment ask for, as settings that have been checked."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping

from lb.discovery.kubernetes import ServiceAccount, WatchedService, parse_service
from lb.discovery.sources import Listed, Resolved, Source, WatchedFile
from lb.downstream import Limits
from lb.endpoint import parse_endpoint, parse_targets
from lb.errors import UserError
from lb.exchange import Patience
from lb.keys import KeyFile, read_key
from lb.observability.logs import check_target
from lb.options import ENDPOINTS_VARIABLE, INTERVAL_VARIABLE
from lb.router import Admission
from lb.settings import Settings
from lb.upstream import client_context


def settings_from(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Raises UserError for whatever can be known to be wrong before anything starts."""
    interval, interval_source = _option_or_variable(
        options.poll_interval, "--poll-interval", environ, INTERVAL_VARIABLE
    )
    key_file, ca_file = options.upstream_api_key_file, options.upstream_ca_file
    # Mistakes in these are to be told now, and not by a process that serves.
    if options.api_keys is not None:
        KeyFile(options.api_keys)
    if options.access_log is not None:
        check_target(options.access_log)
    return Settings(
        policy=options.policy,
        source=_source(options, environ),
        poll_interval_s=1.0 if interval is None else _seconds(interval, interval_source),
        seed=options.seed,
        admission=Admission(
            in_flight=options.max_in_flight,
            in_flight_total=options.max_in_flight_total,
            queued=options.max_queued,
            queued_per_tenant=options.max_queued_per_tenant,
            queue_s=options.queue_timeout,
        ),
        limits=Limits(bodies_bytes=options.max_body_memory * 2**20),
        patience=Patience(options.first_byte_timeout, options.stall_timeout),
        slow_start_s=options.slow_start,
        drain_delay_s=options.drain_delay,
        grace_s=options.grace,
        access_log=options.access_log,
        api_keys=options.api_keys,
        replica_key=None if key_file is None else read_key(key_file),
        trusted=None if ca_file is None else client_context(ca_file),
    )


def _source(options: argparse.Namespace, environ: Mapping[str, str]) -> Source:
    """Where replicas are listed; the variable stands in where no option is given."""
    given = {
        "--endpoints": options.endpoints,
        "--endpoints-file": options.endpoints_file,
        "--endpoints-dns": options.endpoints_dns,
        "--endpoints-kubernetes": options.endpoints_kubernetes,
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
    if options.endpoints_kubernetes is not None:
        account = ServiceAccount.in_pod(environ, options.service_account)
        return WatchedService(
            account, parse_service(options.endpoints_kubernetes, account.namespace)
        )
    listed, source = _option_or_variable(
        options.endpoints, "--endpoints", environ, ENDPOINTS_VARIABLE
    )
    if listed is None:
        raise UserError(f"no endpoints, give --endpoints URL,URL or set {ENDPOINTS_VARIABLE}")
    return Listed(parse_targets(listed, source))


def _option_or_variable(
    given: str | None, option: str, environ: Mapping[str, str], variable: str
) -> tuple[str | None, str]:
    """The value and where it is from; an empty variable counts as not set."""
    if given is not None:
        return given, option
    return environ.get(variable) or None, variable


def _seconds(text: str, source: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(f"{source}: {text!r} is not a number of seconds above 0")
    return seconds
