"""Everything that can be set for a balancer, from its options and the environment."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lb.discovery.kubernetes import ServiceAccount, WatchedService, parse_service
from lb.discovery.sources import Listed, Resolved, Source, WatchedFile
from lb.errors import UserError
from lb.http.downstream import Limits
from lb.http.endpoint import parse_endpoint, parse_targets
from lb.http.keys import KeyFile, read_key
from lb.http.upstream.client import client_context
from lb.observability.logs import check_target
from lb.options import (
    ENDPOINTS_VARIABLE,
    GRACE_S,
    INTERVAL_VARIABLE,
    SLOW_START_S,
    parse_interval,
)
from lb.routing.exchange import Timeouts
from lb.routing.router import Admission

_POLL_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a balancer works. With `seed` None, random choices differ at each start.

    A new replica gets its full share of requests after `slow_start_s`. After a signal to stop,
    clients are accepted for `drain_delay_s` more, then requests get `grace_s` to end.
    `access_log` is a path, or "-" for stdout. `api_keys` is a file: clients need one of its keys.
    Replicas get `replica_key`, if there is one, instead of the client's key. `trusted` has the CAs
    of https replicas, None for those of the system.
    """

    policy: str
    source: Source
    poll_interval_s: float = _POLL_INTERVAL_S
    seed: int | None = None
    limits: Limits = field(default_factory=Limits)
    admission: Admission = field(default_factory=Admission)
    timeouts: Timeouts = field(default_factory=Timeouts)
    slow_start_s: float = SLOW_START_S
    drain_delay_s: float = 0.0
    grace_s: float = GRACE_S
    access_log: str | None = None
    api_keys: Path | None = None
    replica_key: str | None = field(default=None, repr=False)
    trusted: ssl.SSLContext | None = None


def settings_from(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings from parsed options. Raises UserError, also for files that cannot be used."""
    key_file, ca_file = options.upstream_api_key_file, options.upstream_ca_file
    # Mistakes in these files are reported before anything starts.
    if options.api_keys is not None:
        KeyFile(options.api_keys)
    if options.access_log is not None:
        check_target(options.access_log)
    return Settings(
        policy=options.policy,
        source=_source(options, environ),
        poll_interval_s=_poll_interval_s(options, environ),
        seed=options.seed,
        admission=Admission(
            in_flight=options.max_in_flight,
            late_binding=options.late_binding,
            in_flight_total=options.max_in_flight_total,
            queued=options.max_queued,
            queued_per_tenant=options.max_queued_per_tenant,
            queue_s=options.queue_timeout,
            fairness=options.fairness,
        ),
        limits=Limits(bodies_bytes=options.max_body_memory * 2**20),
        timeouts=Timeouts(options.first_byte_timeout, options.stall_timeout),
        slow_start_s=options.slow_start,
        drain_delay_s=options.drain_delay,
        grace_s=options.grace,
        access_log=options.access_log,
        api_keys=options.api_keys,
        replica_key=None if key_file is None else read_key(key_file),
        trusted=None if ca_file is None else client_context(ca_file),
    )


def _source(options: argparse.Namespace, environ: Mapping[str, str]) -> Source:
    """Where replicas are listed: an option, or else the environment variable."""
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
    if options.endpoints is not None:
        return Listed(parse_targets(options.endpoints, "--endpoints"))
    if listed := environ.get(ENDPOINTS_VARIABLE):
        return Listed(parse_targets(listed, ENDPOINTS_VARIABLE))
    raise UserError(f"no endpoints, give --endpoints URL,URL or set {ENDPOINTS_VARIABLE}")


def _poll_interval_s(options: argparse.Namespace, environ: Mapping[str, str]) -> float:
    if options.poll_interval is not None:
        return float(options.poll_interval)
    if not (text := environ.get(INTERVAL_VARIABLE)):  # an empty variable counts as not set
        return _POLL_INTERVAL_S
    try:
        return parse_interval(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{INTERVAL_VARIABLE}: {error}") from None
