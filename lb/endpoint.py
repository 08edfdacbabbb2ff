"""Where a replica listens, and how much it can take."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from lb.errors import UserError

# Weights: what is far beyond is a mistake, and would wear out the clock of `round-robin`.
_LOWEST, _HIGHEST = 0.001, 1000.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A plain-HTTP origin. `authority` is `host:port`, with brackets around IPv6.

    `unix` is the path of a socket that is listened on in place of a port. `alias` is what
    listens there, a pod say: at the same address another one is another endpoint.
    """

    host: str
    port: int
    authority: str
    unix: str | None = None
    alias: str | None = None

    @property
    def name(self) -> str:
        """What it is called in answers, metrics and logs."""
        return self.alias or self.authority

    @property
    def url(self) -> str:
        return f"http://{self.authority}"


@dataclass(frozen=True, slots=True)
class Target:
    """A replica as discovery names it; one of weight 2 takes twice the load of one of 1."""

    endpoint: Endpoint
    weight: float = 1.0


def parse_targets(text: str, source: str) -> tuple[Target, ...]:
    """Targets as `source` (an option, a variable, a file) lists them.

    Each is a URL, with or without " weight=N" after it; commas or line ends separate
    them, and what follows a # on a line is a comment. Raises UserError when there is
    none, or one is malformed or given twice.
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
    except ValueError:
        raise _malformed(source, url, "the host or the port is malformed") from None
    reason = _objection(parts, port)
    if reason is not None:
        raise _malformed(source, url, reason)
    host = parts.hostname or ""
    port = 80 if port is None else port
    return Endpoint(host, port, authority(host, port))


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
    if parts.scheme != "http":
        return "it does not start with http://"
    if not parts.hostname or not parts.netloc.isascii() or not parts.netloc.isprintable():
        return "the host is missing or malformed"
    if parts.username is not None or " " in parts.netloc:
        return "the host is missing or malformed"
    if port == 0:
        return "port 0 cannot be connected to"
    if parts.path.rstrip("/") or parts.query or parts.fragment:
        return "only scheme, host and port belong in it"
    return None


def _malformed(source: str, url: str, reason: str) -> UserError:
    return UserError(f"{source}: {url!r} is not an endpoint like http://127.0.0.1:8100: {reason}")
