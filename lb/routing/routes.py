"""What becomes of a request, by method and path: one table of all that vLLM serves.

As of vLLM 0.30, with every option and task that adds routes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

# Who answers: a replica that serves the model, the one that has stored the response which the
# path names, any replica, the balancer itself, or nobody.
Kind = Literal["relayed", "stored", "preflight", "own", "refused"]


@dataclass(frozen=True, slots=True)
class Route:
    """`methods` are those that replicas get, none where none is asked; `reason` is why."""

    kind: Kind
    methods: tuple[bytes, ...] = ()
    reason: str = ""


def route_of(method: bytes, target: bytes) -> Route:
    """The route of a request; `target` is path and query."""
    path = target.partition(b"?")[0]
    route = _ROUTES.get(path) or _by_pattern(method, path)
    if method == b"OPTIONS" and (route.methods or _is_models(path)):
        return _PREFLIGHT
    return route


def listed_path(target: bytes) -> bytes:
    """The path of `target` if it is in the table, else b"": clients can make up any number."""
    path = target.partition(b"?")[0]
    return path if path in _ROUTES else b""


def _by_pattern(method: bytes, path: bytes) -> Route:
    # As replicas read it: what is refused is refused however it is written.
    path = unquote_to_bytes(path)
    if route := _ROUTES.get(path):
        return route
    if path.startswith((b"/adapters/", b"/static/")):
        return _ROUTES[path[: path.index(b"/", 1)]]
    # Of a crooked path, a proxy in front of a replica might make another one.
    if not path.startswith(b"/v1/") or _is_models(path) or _CROOKED.search(path):
        return _OWN
    if path.endswith(b"/"):
        return _TRAILING_SLASH
    if path.startswith(b"/v1/responses/") and (method != b"POST" or path.endswith(b"/cancel")):
        return _STORED
    return _RELAYED if method in {b"POST", b"OPTIONS"} else _OWN


def _is_models(path: bytes) -> bool:
    return path == b"/v1/models" or path.startswith(b"/v1/models/")


def _refused(reason: str, *paths: bytes) -> dict[bytes, Route]:
    return dict.fromkeys(paths, Route("refused", reason=reason))


_RELAYED = Route("relayed", (b"POST",))
_STORED = Route("stored", (b"GET", b"POST", b"DELETE"))
_PREFLIGHT = Route("preflight", (b"OPTIONS",))
_OWN = Route("own")
_CROOKED = re.compile(rb"//|/\.\.?(?:/|$)")
_TRAILING_SLASH = Route(
    "refused", reason="leave out the slash at its end, to which replicas answer with a redirect"
)

_ROUTES: dict[bytes, Route] = {
    # Any other POST under /v1/ is relayed, too; these are found at once.
    **dict.fromkeys(
        (
            b"/v1/chat/completions",
            b"/v1/completions",
            b"/v1/responses",
            b"/v1/embeddings",
            b"/v1/messages",
            b"/v1/messages/count_tokens",
            b"/v1/audio/transcriptions",
            b"/v1/audio/translations",
            b"/v1/score",
            b"/v1/rerank",
            b"/v2/rerank",
            b"/v2/embed",
            b"/score",
            b"/rerank",
            b"/pooling",
            b"/classify",
            b"/generative_scoring",
            b"/tokenize",
            b"/detokenize",
            b"/inference/v1/generate",
            b"/cohere/v2/chat",
            b"/cohere/v2/chat/render",
            b"/invocations",
        ),
        _RELAYED,
    ),
    b"/tokenizer_info": Route("relayed", (b"GET",)),
    **_refused(
        "an adapter is loaded and unloaded in each server, send this to every replica itself; "
        "what they serve then is found with the next poll",
        b"/v1/load_lora_adapter",
        b"/v1/unload_lora_adapter",
        b"/adapters",
    ),
    **_refused(
        "it operates one server, send it to the replicas themselves (/health lists them)",
        b"/sleep",
        b"/wake_up",
        b"/is_sleeping",
        b"/pause",
        b"/resume",
        b"/is_paused",
        b"/abort_requests",
        b"/start_profile",
        b"/stop_profile",
        b"/reset_prefix_cache",
        b"/reset_mm_cache",
        b"/reset_encoder_cache",
        b"/collective_rpc",
        b"/scale_elastic_ep",
        b"/is_scaling_elastic_ep",
        b"/init_weight_transfer_engine",
        b"/start_weight_update",
        b"/start_draft_weight_update",
        b"/update_weights",
        b"/finish_weight_update",
        b"/update_weight_version",
        b"/weight_info",
        b"/get_world_size",
        b"/fault_tolerance/apply",
        b"/fault_tolerance/status",
    ),
    **_refused(
        "it tells of one server, ask a replica itself (/health lists them)",
        b"/load",
        b"/version",
        b"/server_info",
        b"/docs",
        b"/docs/oauth2-redirect",
        b"/redoc",
        b"/openapi.json",
        b"/static",
    ),
    **_refused("use /health, or /ready", b"/ping"),
    **_refused("WebSockets are not passed on, connect to a replica itself", b"/v1/realtime"),
}
