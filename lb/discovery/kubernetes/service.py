"""Which service's endpoints are wanted, as the command line names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lb.errors import UserError

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SERVICE = re.compile(rf"(?:({_LABEL})/)?({_LABEL})(?::(\d{{1,5}}|[-a-z0-9]{{1,15}}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Service:
    """`port` is the name of one of the service's ports, or the number that pods listen on.

    None stands for its only port, or for the one named http where there are several.
    """

    namespace: str
    name: str
    port: str | int | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse_service(text: str, own_namespace: Callable[[], str]) -> Service:
    """The service that `[NAMESPACE/]SERVICE[:PORT]` names. Raises UserError."""
    match = _SERVICE.fullmatch(text)
    if match is None:
        raise UserError(
            f"--endpoints-kubernetes: {text!r} does not read [NAMESPACE/]SERVICE[:PORT]"
        )
    namespace, name, port = match.groups()
    if port is not None and port.isdecimal() and not 1 <= int(port) <= 65535:
        raise UserError(f"--endpoints-kubernetes: {port} is no port, give one up to 65535")
    return Service(
        namespace or own_namespace(),
        name,
        int(port) if port is not None and port.isdecimal() else port,
    )
