"""Where a replica listens, and its weight."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from lb.errors import UserError

# Bounds on weights: beyond them the virtual time of `round-robin` would not be exact.
_LOWEST, _HIGHEST = 0.001, 1000.0

_PREFIX = re.compile(r"(?:/[!-.0-~]+)*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An HTTP server. `authority` is `host:port`, with brackets around IPv6.

    `unix` is the path of a socket that replaces the port. `alias` is the name of the pod: another
    pod at the same address is another endpoint. All paths of requests begin with `prefix`. `tls`
    is the name in its certificate, None for plain HTTP.
    """

    host: str
    port: int
    authority: str
    unix: str | None = None
    alias: str | None = None
    prefix: bytes = b""
    tls: str | None = None

    @property
    def name(self) -> str:
        """Its name in answers, metrics and logs."""
        return self.alias or f"{self.authority}{self.prefix.decode('ascii')}"

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{self.authority}{self.prefix.decode('ascii')}"

    @property
    def host_header(self) -> str:
        """The Host header of requests: with the name, if that was resolved to an address."""
        return self.authority if self.tls is None else authority(self.tls, self.port)


@dataclass(frozen=True, slots=True)
class Target:
    """A replica as discovery finds it; weight 2 is twice the load of weight 1."""

    endpoint: Endpoint
    weight: float = 1.0


def parse_targets(text: str, source: str) -> tuple[Target, ...]:
    """Targets in the text of `source` (an option, a variable, a file).

    Each is a URL, maybe with " weight=N" after it. They are separated by commas or line ends;
    what follows a # is a comment. Raises UserError if there is none, or one is malformed or
    given twice.
    """
    lines = [line.partition("#")[0] for line in text.splitlines()]
    items = [item.strip() for line in lines for item in line.split(",")]
    targets = tuple(_parse_target(item, source) for item in items if item)
    if not targets:
        raise UserError(f"{source} names no endpoints, list URLs like http://127.0.0.1:8100")
    seen: set[Endpoint] = set()
    for target in targets:
        if target.endpoint in seen:
            raise UserError(f"{source}: {target.endpoint.url} is given twice")
        seen.add(target.endpoint)
    return targets


def parse_endpoint(url: str, source: str) -> Endpoint:
    """The endpoint of a URL. Raises UserError when it is malformed."""
    try:
        parts = urlsplit(url)
        port = parts.port
        reason = _objection(parts, port)
    except ValueError:
        reason = "the host or the port is malformed"
    if reason is not None:
        raise UserError(
            f"{source}: {url!r} is not an endpoint like http://127.0.0.1:8100: {reason}"
        )
    host = parts.hostname or ""
    tls = host if parts.scheme == "https" else None
    if port is None:
        port = 80 if tls is None else 443
    prefix = parts.path.rstrip("/").encode("ascii")
    return Endpoint(host, port, authority(host, port), prefix=prefix, tls=tls)


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_target(item: str, source: str) -> Target:
    weighted = re.fullmatch(r"(?P<url>\S+)\s+weight=(?P<weight>\S*)", item)
    if weighted is None:
        return Target(parse_endpoint(item, source))
    endpoint = parse_endpoint(weighted["url"], source)
    try:
        weight = float(weighted["weight"])
    except ValueError:
        weight = math.nan
    if not _LOWEST <= weight <= _HIGHEST:
        raise UserError(
            f"{source}: weight {weighted['weight']!r} of {endpoint.url} is not a number "
            f"from {_LOWEST:g} to {_HIGHEST:g}"
        )
    return Target(endpoint, weight)


def _objection(parts: SplitResult, port: int | None) -> str | None:
    """Why a replica cannot have the URL; None if it can."""
    path = parts.path.rstrip("/")
    plain_host = parts.hostname and parts.netloc.isascii() and parts.netloc.isprintable()
    objections = {
        "it does not start with http:// or https://": parts.scheme not in {"http", "https"},
        "the host is missing or malformed": (
            not plain_host or parts.username is not None or " " in parts.netloc
        ),
        "port 0 cannot be connected to": port == 0,
        "there can be no query and no fragment in it": parts.query or parts.fragment,
        "the path is malformed": not _PREFIX.fullmatch(path),
        "leave out /v1, which is a part of each request's path": path.endswith("/v1"),
    }
    return next((reason for reason, holds in objections.items() if holds), None)
