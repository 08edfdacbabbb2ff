"""Where a replica listens."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from lb.errors import UserError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A plain-HTTP origin. `authority` is `host:port`, with brackets around IPv6.

    `unix` is the path of a socket that is listened on in place of a port.
    """

    host: str
    port: int
    authority: str
    unix: str | None = None

    @property
    def url(self) -> str:
        return f"http://{self.authority}"


def parse_endpoints(text: str, source: str) -> tuple[Endpoint, ...]:
    """Comma-separated URLs, as `source` (an option or variable) gave them.

    Raises UserError when there is none, one is malformed, or one is given twice.
    """
    urls = [item.strip() for item in text.split(",") if item.strip()]
    if not urls:
        raise UserError(f"{source} names no endpoints, give URLs separated by commas")
    endpoints = tuple(_parse(url, source) for url in urls)
    for index, endpoint in enumerate(endpoints):
        if endpoint in endpoints[:index]:
            raise UserError(f"{source}: {endpoint.url} is given twice")
    return endpoints


def _parse(url: str, source: str) -> Endpoint:
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
