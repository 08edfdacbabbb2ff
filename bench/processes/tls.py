"""What connections by TLS trust, and what they show."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bench.errors import UserError


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for connections by TLS: what is trusted, and the client's own certificate.

    Without `verify` any certificate of the server is taken.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True

    def as_json(self) -> dict[str, Any]:
        """JSON values, which `from_json` reads."""
        fields = asdict(self).items()
        return {name: str(one) if isinstance(one, Path) else one for name, one in fields}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `as_json` has written."""
        files = {name: Path(one) for name, one in values.items() if isinstance(one, str)}
        return cls(**files, verify=values["verify"])

    def context(self) -> ssl.SSLContext:
        """The settings as Python's ssl takes them. Raises UserError for a file it cannot use."""
        reading = self.ca
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                reading = self.certificate
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:  # without a file and a name it is a wrong password
            raise UserError(
                f"cannot use {reading} for TLS: {error.strerror or error}; give a PEM file"
            ) from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
