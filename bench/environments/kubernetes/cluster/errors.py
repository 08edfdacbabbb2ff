"""Requests that failed, as one line: refused by the API server, or not answered."""

from __future__ import annotations

import json

from bench.environments.kubernetes.objects import one_line
from bench.errors import UserError

_LIMIT = 500


def refusal(action: str, status: int, reason: str, body: str) -> UserError:
    """The error for an answer that is no success. `action` says what was tried: `list pods`."""
    message = _message(body) or reason or f"status {status}"
    if status == 401:
        return UserError(
            f"cannot {action}: the cluster does not know your credentials (401); log in again, "
            "or check the users of the kubeconfig"
        )
    if status == 403:
        return UserError(f"not allowed to {action}: {message}")
    return UserError(f"cannot {action}: {message} ({status})")


def unreachable(action: str, server: str, error: Exception) -> UserError:
    """The error for a request without an answer."""
    return UserError(
        f"cannot {action}: the API server {server} does not answer: {_innermost(error)}"
    )


def _message(body: str) -> str:
    """The message of a `Status`, which is how the API server describes an error."""
    try:
        status = json.loads(body)
    except ValueError:
        return one_line(body, _LIMIT)
    message = status.get("message") if isinstance(status, dict) else None
    return one_line(message, _LIMIT) if isinstance(message, str) else ""


def _innermost(error: Exception) -> str:
    """The text of the innermost reason: urllib3 wraps the error in what it had tried."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        return _innermost(inner)
    # `<urllib3...HTTPSConnection object at 0x...>: Failed to establish ...`
    return one_line(str(error).rpartition(">: ")[2] or type(error).__name__, _LIMIT)
