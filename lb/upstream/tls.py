"""TLS towards replicas: whose certificates hold, and what to say of those that do not."""

from __future__ import annotations

import ssl
from pathlib import Path

from lb.errors import UserError


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Trusts the CAs in a PEM file, or else those of the system. Raises UserError."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        is_tls = isinstance(error, ssl.SSLError)
        reason = "it holds no certificates in PEM" if is_tls else error.strerror
        raise UserError(f"{ca_file} cannot be used: {reason}") from None
    # Whatever is in the file is trusted, an intermediate CA as well: Python's default from 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    return context


def reason_of(error: OSError) -> str:
    """Why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}"
    return error.strerror or str(error)
