"""Errors in the form of the OpenAI API, or of Anthropic's on its paths."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass

import orjson

from lb.http.http1 import CLOSE, answer_head

Headers = tuple[tuple[bytes, bytes], ...]

# By default vLLM lets pages of any origin read its answers; errors have no secrets.
ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_ANTHROPIC_PATH = b"/v1/messages"
_RETRY_AFTER: Headers = ((b"retry-after", b"1"),)


@dataclass(eq=False)
class ApiError(Exception):
    """An error that the balancer answers itself: `{"error": {message, type, code, param}}`."""

    status: int
    message: str
    _: KW_ONLY
    code: str
    param: str | None = None
    headers: Headers = ()

    def __str__(self) -> str:
        return self.message

    def body(self) -> bytes:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {
            "message": self.message,
            "type": kind,
            "code": self.code,
            "param": self.param,
        }
        return orjson.dumps({"error": error})

    def answer(self, *, keep_alive: bool, more: Headers = (), bodiless: bool = False) -> bytes:
        """The error as a whole HTTP answer; `bodiless` for HEAD."""
        body = self.body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            ANY_ORIGIN,
            *self.headers,
            *more,
        ]
        if not keep_alive:
            headers.append(CLOSE)
        head = answer_head(self.status, (), headers)
        return head if bodiless else head + body

    def event(self) -> bytes:
        """The error as a server-sent event. A blank line first ends one that was cut off."""
        return b"\n\ndata: " + self.body() + b"\n\n"

    def at(self, target: bytes) -> ApiError:
        """This error, in the form of the API of `target`."""
        if not target.startswith(_ANTHROPIC_PATH):
            return self
        return _AnthropicError(
            self.status, self.message, code=self.code, param=self.param, headers=self.headers
        )


class _AnthropicError(ApiError):
    """`{"type": "error", "error": {type, message}}`, in a stream as an event `error`."""

    def body(self) -> bytes:
        kind = "invalid_request_error" if self.status < 500 else "api_error"
        error = {"type": _ANTHROPIC_TYPES.get(self.status, kind), "message": self.message}
        return orjson.dumps({"type": "error", "error": error})

    def event(self) -> bytes:
        return b"\n\nevent: error\ndata: " + self.body() + b"\n\n"


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def invalid_body(reason: str, param: str | None = None) -> ApiError:
    return ApiError(400, reason, code="invalid_body", param=param)


def invalid_api_key(reason: str) -> ApiError:
    headers = ((b"www-authenticate", b"Bearer"),)
    return ApiError(401, reason, code="invalid_api_key", headers=headers)


def unknown_model(name: str, known: Collection[str]) -> ApiError:
    message = f"The model {name[:100]!r} does not exist. Known models: {', '.join(sorted(known))}"
    return ApiError(404, message, code="model_not_found", param="model")


def method_not_allowed(method: bytes, target: bytes, allowed: Collection[bytes]) -> ApiError:
    listed = b", ".join(allowed)
    message = f"{method.decode()} is not allowed on {_path(target)}, use {listed.decode()}"
    return ApiError(405, message, code="method_not_allowed", headers=((b"allow", listed),))


def not_supported(method: bytes, target: bytes, reason: str) -> ApiError:
    message = f"{method.decode()} {_path(target)} is not supported by the balancer: {reason}"
    return ApiError(404, message, code="not_supported")


def unsupported_coding(coding: bytes) -> ApiError:
    name = coding[:100].decode("ascii", errors="replace")
    message = f"Bodies encoded as {name} are not supported: send it without Content-Encoding"
    headers = ((b"accept-encoding", b"identity"),)
    return ApiError(415, message, code="unsupported_encoding", headers=headers)


def unsupported_transfer_coding(coding: str) -> ApiError:
    message = (
        f"The transfer coding {coding[:100]} is not supported: send a length, or chunked alone"
    )
    return ApiError(501, message, code="unsupported_encoding")


def bad_request(reason: str) -> ApiError:
    return ApiError(400, reason, code="bad_request")


def head_too_large(limit_bytes: int) -> ApiError:
    return ApiError(431, f"The head is larger than {limit_bytes} bytes", code="head_too_large")


def request_timeout() -> ApiError:
    return ApiError(408, "The request did not come in time", code="request_timeout")


def body_too_large(limit_bytes: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit_bytes} bytes", code="body_too_large")


def replica_failed(replica: str, reason: str) -> ApiError:
    return ApiError(502, f"Replica {replica} {reason}", code="replica_failed")


def no_healthy_replica(reason: str) -> ApiError:
    return ApiError(503, reason, code="no_healthy_replica", headers=_RETRY_AFTER)


def out_of_descriptors(reason: str) -> ApiError:
    message = f"The balancer has no descriptors or ports left for more connections: {reason}"
    return ApiError(503, message, code="out_of_descriptors", headers=_RETRY_AFTER)


def bodies_too_large(limit_bytes: int) -> ApiError:
    message = (
        f"The bodies of all requests together are larger than the {limit_bytes} bytes that the "
        "balancer holds (--max-body-memory); try again"
    )
    return ApiError(503, message, code="bodies_too_large", headers=_RETRY_AFTER)


def not_ready(reason: str) -> ApiError:
    return ApiError(503, reason, code="not_ready", headers=_RETRY_AFTER)


def too_many_requests(reason: str) -> ApiError:
    return ApiError(429, reason, code="rate_limit_exceeded", headers=_RETRY_AFTER)


def _path(target: bytes) -> str:
    return target.partition(b"?")[0][:200].decode("ascii", errors="replace")
