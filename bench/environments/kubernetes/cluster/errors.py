"""What a cluster answers instead of doing what was asked, as one line."""

from __future__ import annotations

import json

from bench.errors import UserError


def refusal(action: str, status: int, reason: str, body: str) -> UserError:
    """An answer of the API server that is no success. `action` is a verb and on what."""
    told = _message(body) or reason or f"status {status}"
    if status == 401:
        return UserError(
            f"cannot {action}: the cluster does not know who asks (401); log in again, or see "
            "the users of the kubeconfig"
        )
    if status == 403:
        return UserError(f"not allowed to {action}: {told}")
    return UserError(f"cannot {action}: {told} ({status})")


def away(action: str, server: str, error: Exception) -> UserError:
    """No answer at all."""
    return UserError(f"cannot {action}: the API server {server} does not answer: {_why(error)}")


def _message(body: str) -> str:
    """The message of a `Status`, which is what the API server answers to a mistake."""
    try:
        status = json.loads(body)
    except ValueError:
        return _one_line(body)
    told = status.get("message") if isinstance(status, dict) else None
    return _one_line(told) if isinstance(told, str) else ""


def _why(error: Exception) -> str:
    """The innermost reason: urllib3 wraps what happened in what it had tried."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        return _why(inner)
    # `<urllib3...HTTPSConnection object at 0x...>: Failed to establish ...`
    return _one_line(str(error).rpartition(">: ")[2] or type(error).__name__)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
