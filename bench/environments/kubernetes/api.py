"""The requests to an API server that the suite needs: objects as JSON, errors as one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict, Unpack
from urllib.parse import parse_qsl

from kubernetes.client import ApiClient, ApiException
from kubernetes.client.rest import RESTResponse
from kubernetes.stream.ws_client import create_websocket, get_websocket_url
from urllib3.exceptions import HTTPError
from websocket import WebSocketBadStatusException, WebSocketException

from bench.environments.kubernetes.objects import KINDS, Kind, Object, Resource, one_line
from bench.environments.kubernetes.streams import PROTOCOL, Streams
from bench.errors import UserError

# To connect, and between bytes of an answer.
CONNECT_S, SILENCE_S = 10.0, 60.0
# The same for what a pod answers.
_PROXY_SILENCE_S = 10.0
_CHUNK_BYTES = 65536
_AS_US = [("fieldManager", "llm-bench")]
_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"
# Of an error's message, in characters.
_LIMIT = 500


class _Asked(TypedDict, total=False):
    """What a request has beside its method and path; `silence_s` may pass between bytes."""

    query: Sequence[tuple[str, str]]
    body: Object | None
    content: str
    accept: str
    silence_s: float | None


class Api:
    """The API of one cluster. Every method raises UserError with one line.

    `context` and `server` are those of the kubeconfig.
    """

    def __init__(self, client: ApiClient, context: str, server: str) -> None:
        self._client = client
        self.context = context
        self.server = server

    def get(self, kind: str, namespace: str | None, name: str) -> Resource | None:
        """An object; None if it does not exist."""
        what, path = _locate(kind, namespace, name)
        text = self._request(f"get {what}", "GET", path, accepted=(404,))
        return Resource(self._object(text, "metadata")) if text else None

    def find(
        self,
        kind: str | Kind,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Resource]:
        """All objects of a kind that have these labels, in one namespace or in all."""
        what, path = _locate(kind, namespace)
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        query = [("labelSelector", selector)] if selector else []
        text = self._request(f"list {what}", "GET", path, query=query)
        return [Resource(one) for one in self._object(text, "items")["items"]]

    def apply(self, wanted: Object) -> None:
        """Server-side apply: sets the fields in `wanted`, and leaves those that others have set."""
        meta = wanted["metadata"]
        what, path = _locate(wanted["kind"], meta.get("namespace"), meta["name"])
        query = [*_AS_US, ("force", "true")]
        self._request(f"apply {what}", "PATCH", path, query=query, body=wanted, content=_APPLY)

    def write(self, wanted: Object) -> Resource | None:
        """Create an object, or replace the version of it that `wanted` names.

        Returns it as it is then; None if it exists already, or that version does not any more.
        """
        meta = wanted["metadata"]
        name = meta["name"] if "resourceVersion" in meta else ""
        _, path = _locate(wanted["kind"], meta["namespace"], name)
        what, _ = _locate(wanted["kind"], meta["namespace"], meta["name"])
        action, method = (f"replace {what}", "PUT") if name else (f"create {what}", "POST")
        accepted = (404, 409) if name else (409,)
        text = self._request(action, method, path, query=_AS_US, body=wanted, accepted=accepted)
        return Resource(self._object(text, "metadata")) if text else None

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Set how many pods a Deployment has."""
        what, path = _locate("Deployment", namespace, deployment)
        body, path = {"spec": {"replicas": replicas}}, f"{path}/scale"
        self._request(f"scale {what}", "PATCH", path, query=_AS_US, body=body, content=_MERGE)

    def delete(self, kind: str, namespace: str | None, name: str, version: str = "") -> None:
        """Delete an object and what it owns, with `version` only that version of it.

        Nothing happens if that does not exist.
        """
        what, path = _locate(kind, namespace, name)
        query = [("propagationPolicy", "Background")]
        body = {"preconditions": {"resourceVersion": version}} if version else None
        accepted = (404, 409) if version else (404,)
        self._request(f"delete {what}", "DELETE", path, query=query, body=body, accepted=accepted)

    def log(self, namespace: str, pod: str, lines: int, *, previous: bool = False) -> str:
        """The last lines of a pod's log, with `previous` of the container before its restart.

        Empty if there is no log.
        """
        what, path = _locate("Pod", namespace, pod)
        return self._request(
            f"read the log of {what}",
            "GET",
            f"{path}/log",
            query=[("tailLines", str(lines)), ("previous", str(previous).lower())],
            accept="*/*",
            accepted=(400, 404),  # there is no such container yet, or none before it
        )

    def lines(self, namespace: str, pod: str, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The last `tail` lines of a pod's log as they come, or all; `follow` waits for more.

        There are none if there is no log.
        """
        what, path = _locate("Pod", namespace, pod)
        action, query = f"read the log of {what}", [("follow", str(follow).lower())]
        if tail is not None:
            query.append(("tailLines", str(tail)))
        with self._reaching(action):
            answer = self._open(
                "GET", f"{path}/log", query=query, accept="*/*", silence_s=None if follow else 60.0
            )
            if answer.status in (400, 404):  # there is no such container yet
                return
            if answer.status >= 300:
                raise _refusal(action, answer.status, answer.reason or "", _text(answer))
            begun = b""
            try:
                for data in answer.response.stream(_CHUNK_BYTES):
                    *whole, begun = (begun + data).split(b"\n")
                    yield from (line.decode(errors="replace") for line in whole)
            finally:
                answer.response.close()  # what has not been read is not waited for
            if begun:
                yield begun.decode(errors="replace")

    def fetch(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """The body of a pod's answer to GET `path`, through the API server."""
        what, at = _locate("Pod", namespace, pod)
        path, _, query = path.partition("?")
        action = f"get {path} of {what} through the API server"
        with self._reaching(action):
            answer = self._open(
                "GET",
                f"{at}:{port}/proxy{path}",
                query=parse_qsl(query),
                accept="*/*",
                silence_s=_PROXY_SILENCE_S,
            )
            if answer.status >= 300:
                raise _refusal(action, answer.status, answer.reason or "", _text(answer))
            return bytes(answer.read())

    def execute(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Streams:
        """Start a command in a container; the streams are its input, output and errors."""
        what, path = _locate("Pod", namespace, pod)
        _, url, headers, *_ = self._client.param_serialize(
            "GET",
            f"{path}/exec",
            query_params=[
                ("container", container),
                *((stream, "true") for stream in ("stdin", "stdout", "stderr")),
                *(("command", word) for word in command),
            ],
            auth_settings=["BearerToken"],
        )
        action = f"start {' '.join(command)} in {what}"
        asked = {**headers, "sec-websocket-protocol": PROTOCOL}
        try:
            socket = create_websocket(self._client.configuration, get_websocket_url(url), asked)
        except WebSocketBadStatusException as error:
            body = (error.resp_body or b"").decode(errors="replace")
            raise _refusal(action, error.status_code, error.status_message or "", body) from None
        except (WebSocketException, OSError) as error:
            raise _unreachable(action, self.server, error) from None
        # The socket itself checks only subprotocols that it was given as such.
        if (socket.getheaders() or {}).get("sec-websocket-protocol") != PROTOCOL:
            socket.shutdown()
            raise UserError(
                f"cannot {action}: the API server {self.server} does not speak {PROTOCOL}, "
                "which Kubernetes does from 1.30 on; is there a proxy in between?"
            )
        return Streams(socket)

    def version(self) -> str:
        """The cluster's version, such as `v1.32.13`."""
        text = self._request("ask for the version", "GET", "/version")
        return str(self._object(text, "gitVersion")["gitVersion"])

    def _object(self, text: str, field: str) -> dict[str, Any]:
        """The object in an answer, with that field. Raises UserError for others, as of a proxy."""
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not (isinstance(found, dict) and field in found):
            raise UserError(
                f"the API server {self.server} answers {one_line(text, _LIMIT)!r} in place of what "
                "was asked for; is there a proxy in between?"
            )
        return found

    def namespaced_kinds(self) -> list[Kind]:
        """Every kind of objects that the cluster has in namespaces and that can be deleted."""
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        found = []
        for root in ("/api", "/apis"):
            text = self._request("list the kinds of objects", "GET", root, accept=accept)
            for group in self._object(text, "items")["items"]:
                first, name = group["versions"][0], group["metadata"].get("name")
                prefix = "/".join(filter(None, (root, name, first["version"])))
                found += [
                    Kind(one["responseKind"]["kind"], prefix, one["resource"])
                    for one in first.get("resources", ())
                    if one["scope"] == "Namespaced" and {"list", "delete"} <= set(one["verbs"])
                ]
        return found

    def _request(
        self,
        action: str,
        method: str,
        path: str,
        *,
        accepted: Sequence[int] = (),
        **asked: Unpack[_Asked],
    ) -> str:
        """The body of the answer; empty for an error status in `accepted`."""
        with self._reaching(action):
            answer = self._open(method, path, **asked)
            text = _text(answer)
        if answer.status in accepted:
            return ""
        if answer.status >= 300:
            raise _refusal(action, answer.status, answer.reason or "", text)
        return text

    def _open(self, method: str, path: str, **asked: Unpack[_Asked]) -> RESTResponse:
        """The answer, whose body has not been read. Bodies are JSON if not told else."""
        content, body = asked.get("content", _JSON), asked.get("body")
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(asked.get("query", ())),
            header_params={"Accept": asked.get("accept", _JSON), "Content-Type": content},
            # As text: the client knows this content type for no JSON.
            body=json.dumps(body) if content == _APPLY else body,
            auth_settings=["BearerToken"],
        )
        timeouts_s = CONNECT_S, asked.get("silence_s", SILENCE_S)
        return self._client.call_api(*request, _request_timeout=timeouts_s)

    @contextmanager
    def _reaching(self, action: str) -> Iterator[None]:
        """Makes UserErrors of failures to reach the API server."""
        try:
            yield
        except (ApiException, HTTPError, OSError) as error:
            # The client raises its own exception for TLS errors only.
            raise _unreachable(action, self.server, error) from None


def _text(answer: RESTResponse) -> str:
    return str(answer.read().decode(errors="replace"))


def _locate(kind: str | Kind, namespace: str | None, name: str = "") -> tuple[str, str]:
    """An object in words, and its path on the API server.

    Without `name`, it is all objects of the kind; without `namespace`, those of all namespaces.
    Raises UserError for the name of a kind that is not in `KINDS`.
    """
    known = kind if isinstance(kind, Kind) else KINDS.get(kind)
    if known is None:
        raise UserError(f"objects of kind {kind} are not supported; supported: {', '.join(KINDS)}")
    inside = f"/namespaces/{namespace}" if known.namespaced and namespace else ""
    what = f"{known.name} {name}" if name else known.plural
    path = "/".join(filter(None, (f"{known.prefix}{inside}", known.plural, name)))
    return f"{what} in namespace {namespace}" if inside else what, path


def _refusal(action: str, status: int, reason: str, body: str) -> UserError:
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


def _message(body: str) -> str:
    """The message of a `Status`, which is how the API server describes an error."""
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        return one_line(body, _LIMIT)
    message = status.get("message") if isinstance(status, dict) else None
    return one_line(message, _LIMIT) if isinstance(message, str) else ""


def _unreachable(action: str, server: str, error: Exception) -> UserError:
    """The error for a request without an answer, with its innermost reason: urllib3 wraps that."""
    while isinstance(inner := getattr(error, "reason", None), Exception):
        error = inner
    # `<urllib3...HTTPSConnection object at 0x...>: Failed to establish ...`
    reason = one_line(str(error).rpartition(">: ")[2] or type(error).__name__, _LIMIT)
    return UserError(f"cannot {action}: the API server {server} does not answer: {reason}")
