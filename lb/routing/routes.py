"""Who answers a request, by method and path: a table of all that vLLM 0.30 serves."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote_to_bytes

# Who answers: a replica that serves the model, the replica that has stored the response named in
# the path, any replica, the balancer itself, or nobody.
Kind = Literal["relayed", "stored", "preflight", "own", "refused"]


@dataclass(frozen=True, slots=True)
class Route:
    """`methods` are those that replicas get, () if they get none; `reason` is why it is refused.

    `path` is b"" for paths that are not in the table: clients can make up any number of them.
    """

    kind: Kind
    methods: tuple[bytes, ...] = ()
    reason: str = ""
    path: bytes = b""


def route_of(method: bytes, target: bytes) -> Route:
    """The route of a request; `target` is path and query."""
    path = target.partition(b"?")[0]
    route = _ROUTES.get(path) or _by_pattern(method, path)
    if method == b"OPTIONS" and (route.methods or _is_models(path)):
        return _PREFLIGHT
    return route


def _by_pattern(method: bytes, path: bytes) -> Route:
    # Replicas decode paths: what is refused is refused in any spelling.
    path = unquote_to_bytes(path)
    if route := _ROUTES.get(path):
        return route
    if path.startswith((b"/adapters/", b"/static/")):
        return _ROUTES[path[: path.index(b"/", 1)]]
    # A path with // or dots might be another one for a proxy in front of a replica.
    if not path.startswith(b"/v1/") or _is_models(path) or _NOT_NORMAL.search(path):
        return _OWN
    if path.endswith(b"/"):
        return _TRAILING_SLASH
    if path.startswith(b"/v1/responses/") and (method != b"POST" or path.endswith(b"/cancel")):
        return _STORED
    return _RELAYED if method in {b"POST", b"OPTIONS"} else _OWN


def _is_models(path: bytes) -> bool:
    return path == b"/v1/models" or path.startswith(b"/v1/models/")


def _refused(reason: str, paths: bytes) -> dict[bytes, Route]:
    return dict.fromkeys(paths.split(), Route("refused", reason=reason))


_RELAYED = Route("relayed", (b"POST",))
_STORED = Route("stored", (b"GET", b"POST", b"DELETE"))
_PREFLIGHT = Route("preflight", (b"OPTIONS",))
_OWN = Route("own")
_NOT_NORMAL = re.compile(rb"//|/\.\.?(?:/|$)")
_TRAILING_SLASH = Route(
    "refused", reason="leave out the slash at its end, to which replicas answer with a redirect"
)

_RELAYED_PATHS = b"""
    /v1/chat/completions /v1/completions /v1/responses /v1/embeddings
    /v1/messages /v1/messages/count_tokens
    /v1/audio/transcriptions /v1/audio/translations
    /v1/score /v1/rerank /v2/rerank /v2/embed /score /rerank
    /pooling /classify /generative_scoring /tokenize /detokenize
    /inference/v1/generate /cohere/v2/chat /cohere/v2/chat/render /invocations
"""
_OPERATING_PATHS = b"""
    /sleep /wake_up /is_sleeping /pause /resume /is_paused
    /abort_requests /start_profile /stop_profile
    /reset_prefix_cache /reset_mm_cache /reset_encoder_cache
    /collective_rpc /scale_elastic_ep /is_scaling_elastic_ep
    /init_weight_transfer_engine /start_weight_update /start_draft_weight_update
    /update_weights /finish_weight_update /update_weight_version /weight_info
    /get_world_size /fault_tolerance/apply /fault_tolerance/status
"""
_DESCRIBING_PATHS = b"""
    /load /version /server_info
    /docs /docs/oauth2-redirect /redoc /openapi.json /static
"""

_ROUTES: dict[bytes, Route] = {
    # Any other POST under /v1/ is relayed, too; these are found at once.
    **{path: replace(_RELAYED, path=path) for path in _RELAYED_PATHS.split()},
    b"/tokenizer_info": Route("relayed", (b"GET",), path=b"/tokenizer_info"),
    **_refused(
        "an adapter is loaded and unloaded in each server, send this to every replica itself; "
        "what they serve then is found with the next poll",
        b"/v1/load_lora_adapter /v1/unload_lora_adapter /adapters",
    ),
    **_refused(
        "it operates one server, send it to the replicas themselves (/health lists them)",
        _OPERATING_PATHS,
    ),
    **_refused(
        "it describes one server, ask a replica itself (/health lists them)", _DESCRIBING_PATHS
    ),
    **_refused("use /health, or /ready", b"/ping"),
    **_refused("WebSockets are not passed on, connect to a replica itself", b"/v1/realtime"),
}
