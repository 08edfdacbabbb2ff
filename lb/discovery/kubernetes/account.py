"""The ServiceAccount of the pod that the balancer runs in, and the API server to show it to."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from lb.endpoint import authority
from lb.errors import UserError

_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """`folder` is where the kubelet keeps the files `token`, `ca.crt` and `namespace`.

    They are read whenever they are needed, since it replaces them: a token holds for an
    hour or so. Raises UserError for one that cannot be used.
    """

    url: str
    folder: Path

    @classmethod
    def in_pod(cls, environ: Mapping[str, str], folder: Path) -> ServiceAccount:
        """Raises UserError unless this is a pod with a ServiceAccount, or looks like one."""
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
        """The pod's own."""
        return self._read("namespace")

    def tls(self) -> ssl.SSLContext:
        """Trusts the cluster's own authority and nobody else."""
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
