"""The service that replicas belong to, and the ServiceAccount that may list its endpoints."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from lb.errors import UserError
from lb.http.endpoint import authority

_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SERVICE = re.compile(
    rf"(?:({_LABEL})/)?({_LABEL})(?::(\d{{1,5}}(?:,\d{{1,5}})*|[-a-z0-9]{{1,15}}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Service:
    """A service; `port` is the name of one of its ports, or the numbers that its pods listen on.

    None is its only port, or of several the one named http. A pod is a replica at each number.
    """

    namespace: str
    name: str
    port: str | tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse_service(text: str, own_namespace: Callable[[], str]) -> Service:
    """The service that `[NAMESPACE/]SERVICE[:PORT,...]` names. Raises UserError."""
    match = _SERVICE.fullmatch(text)
    if match is None:
        raise UserError(
            f"--endpoints-kubernetes: {text!r} does not read [NAMESPACE/]SERVICE[:PORT,...]"
        )
    namespace, name, port = match.groups()
    if port is None or not port.replace(",", "").isdecimal():
        return Service(namespace or own_namespace(), name, port)
    numbers = tuple(dict.fromkeys(map(int, port.split(","))))
    for number in numbers:
        if not 1 <= number <= 65535:
            raise UserError(f"--endpoints-kubernetes: {number} is no port, give one up to 65535")
    return Service(namespace or own_namespace(), name, numbers)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Access to the API server at `url`, with the files `token`, `ca.crt`, `namespace` of `folder`.

    They are read at each use, since the kubelet replaces them: a token is valid for about an
    hour. All methods raise UserError for a file that cannot be used.
    """

    url: str
    folder: Path

    @classmethod
    def in_pod(cls, environ: Mapping[str, str], folder: Path) -> ServiceAccount:
        """The ServiceAccount of this pod. Raises UserError outside of a pod."""
        host, port = environ.get(_HOST), environ.get(_PORT)
        if not host or not port:
            raise UserError(
                f"--endpoints-kubernetes works in a pod: {_HOST} and {_PORT} are not both set"
            )
        try:
            url = httpx.URL(f"https://{authority(host, int(port))}")
        except (ValueError, httpx.InvalidURL):
            raise UserError(f"{_HOST}={host!r} and {_PORT}={port!r} are no address") from None
        account = cls(str(url), folder)
        account.token()
        account.tls()
        return account

    def token(self) -> str:
        return self._read("token")

    def namespace(self) -> str:
        """The namespace of this pod."""
        return self._read("namespace")

    def tls(self) -> ssl.SSLContext:
        """A context that trusts only the cluster's own CA."""
        try:
            return ssl.create_default_context(cadata=self._read("ca.crt"))
        except ssl.SSLError:
            raise UserError(f"{self.folder / 'ca.crt'} holds no certificates") from None

    def _read(self, name: str) -> str:
        path = self.folder / name
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not ASCII"
            raise UserError(
                f"{path} cannot be read: {reason}; does the pod get its ServiceAccount's token?"
            ) from None
        if not text:
            raise UserError(f"{path} is empty")
        return text
