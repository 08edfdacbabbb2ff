"""The few requests that the suite makes of an API server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from bench.environments.kubernetes.cluster.errors import away, refusal
from bench.environments.kubernetes.cluster.streams import Streams
from bench.environments.kubernetes.objects import Object
from bench.errors import UserError

FIELD_MANAGER = "llm-bench"
# To connect, and between bytes of an answer, in seconds.
TIMEOUT_S = (10.0, 60.0)
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"


class Api:
    """Objects are JSON values. Each method raises UserError with one line.

    `context` and `server` are those of the kubeconfig.
    """

    def __init__(self, client: ApiClient, context: str, server: str) -> None:
        self._client = client
        self.context = context
        self.server = server

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """An object, None if there is none."""
        path = kind_named(kind).path(namespace, name)
        text = self._ask(f"get {_what(kind, namespace, name)}", "GET", path, absent=(404,))
        return None if text is None else self._object(text)

    def find(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """All objects of a kind with these labels, in one namespace or in all."""
        query = [("labelSelector", ",".join(f"{key}={is_}" for key, is_ in (labels or {}).items()))]
        path = kind_named(kind).path(namespace)
        text = self._ask(f"list {_what(kind, namespace)}", "GET", path, query=query)
        items: list[Object] = self._object(text)["items"]
        return items

    def apply(self, wanted: Object) -> Object:
        """Server-side apply: what `wanted` says becomes so, what others have set stays."""
        kind, meta = wanted["kind"], wanted["metadata"]
        what = _what(kind, meta.get("namespace"), meta["name"])
        path = kind_named(kind).path(meta.get("namespace"), meta["name"])
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        return self._object(
            self._ask(f"apply {what}", "PATCH", path, query=query, body=wanted, content=_APPLY)
        )

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Set how many pods a Deployment has."""
        what = _what("Deployment", namespace, deployment)
        path = f"{kind_named('Deployment').path(namespace, deployment)}/scale"
        query = [("fieldManager", FIELD_MANAGER)]
        body = {"spec": {"replicas": replicas}}
        self._ask(f"scale {what}", "PATCH", path, query=query, body=body, content=_MERGE)

    def delete(self, kind: str, namespace: str | None, name: str) -> None:
        """Delete an object and what it owns; one that is gone is deleted."""
        path = kind_named(kind).path(namespace, name)
        query = [("propagationPolicy", "Background")]
        what = _what(kind, namespace, name)
        self._ask(f"delete {what}", "DELETE", path, query=query, absent=(404,))

    def log(self, namespace: str, pod: str, lines: int, *, previous: bool = False) -> str:
        """The end of a pod's log, of the container before with `previous`; empty if none."""
        query = [("tailLines", str(lines)), ("previous", str(previous).lower())]
        path = f"{kind_named('Pod').path(namespace, pod)}/log"
        what = f"read the log of {_what('Pod', namespace, pod)}"
        absent = (400, 404)  # no such container yet, or none before it
        return self._ask(what, "GET", path, query=query, accept="*/*", absent=absent) or ""

    def execute(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Streams:
        """Start a command in a container, with its standard input, output and errors."""
        what = f"start {' '.join(command)} in {_what('Pod', namespace, pod)}"
        _, url, headers, *_ = self._client.param_serialize(
            "GET",
            f"{kind_named('Pod').path(namespace, pod)}/exec",
            query_params=[
                ("container", container),
                *((stream, "true") for stream in ("stdin", "stdout", "stderr")),
                *(("command", word) for word in command),
            ],
            auth_settings=["BearerToken"],
        )
        return Streams.opened(what, self._client.configuration, url, headers)

    def version(self) -> str:
        """The cluster's version, `v1.32.13`."""
        return str(self._object(self._ask("ask for the version", "GET", "/version"))["gitVersion"])

    def resources(self) -> list[Object]:
        """Every kind of object that lives in namespaces, with its group and version."""
        kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        found: list[Object] = []
        for path in ("/api", "/apis"):
            text = self._ask("list the kinds of objects", "GET", path, accept=kind)
            for group in self._object(text)["items"]:
                first = group["versions"][0]
                found += [
                    {**one, "group": group["metadata"].get("name", ""), "version": first["version"]}
                    for one in first.get("resources", ())
                    if one["scope"] == "Namespaced" and {"list", "delete"} <= set(one["verbs"])
                ]
        return found

    def listed(self, resource: Object, namespace: str) -> list[Object]:
        """All objects of one of `resources` in a namespace."""
        group, version, plural = (resource[key] for key in ("group", "version", "resource"))
        prefix = f"/apis/{group}" if group else "/api"
        path = f"{prefix}/{version}/namespaces/{namespace}/{plural}"
        text = self._ask(f"list {plural} in {namespace}", "GET", path)
        items: list[Object] = self._object(text)["items"]
        return items

    def _ask(
        self,
        action: str,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Object | None = None,
        content: str = "application/json",
        accept: str = "application/json",
        absent: Sequence[int] = (),
    ) -> str | None:
        """The answer's body; None for a status in `absent`."""
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=[pair for pair in query if pair[1]],
                header_params={"Accept": accept, "Content-Type": content},
                # As text where the client would not take it for JSON.
                body=json.dumps(body) if content == _APPLY else body,
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(*request, _request_timeout=TIMEOUT_S)
            text = str(answer.read().decode(errors="replace"))
        except (ApiException, HTTPError, OSError) as error:
            # The client's own exception is one of TLS here.
            raise away(action, self.server, error) from None
        if answer.status in absent:
            return None
        if answer.status >= 300:
            raise refusal(action, answer.status, answer.reason or "", text)
        return text

    @staticmethod
    def _object(text: str | None) -> Object:
        made: Object = json.loads(text or "{}")
        return made


def _what(kind: str, namespace: str | None, name: str = "") -> str:
    known = kind_named(kind)
    shown = f"{kind} {name}" if name else known.plural
    return f"{shown} in namespace {namespace}" if namespace and known.namespaced else shown


@dataclass(frozen=True, slots=True)
class Kind:
    """Where the API server has the objects of a kind."""

    name: str
    prefix: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """The path of one object, or of all; of all namespaces if that is None."""
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{self.prefix}{inside}/{self.plural}{f'/{name}' if name else ''}"


# In the order in which they are applied: what others refer to comes first.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("Namespace", "/api/v1", "namespaces", namespaced=False),
        Kind("PriorityClass", "/apis/scheduling.k8s.io/v1", "priorityclasses", namespaced=False),
        Kind("ServiceAccount", "/api/v1", "serviceaccounts"),
        Kind("Role", "/apis/rbac.authorization.k8s.io/v1", "roles"),
        Kind("RoleBinding", "/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
        Kind("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
        Kind("PersistentVolumeClaim", "/api/v1", "persistentvolumeclaims"),
        Kind("Service", "/api/v1", "services"),
        Kind("PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets"),
        Kind("Deployment", "/apis/apps/v1", "deployments"),
        Kind("Job", "/apis/batch/v1", "jobs"),
        Kind("Pod", "/api/v1", "pods"),
        # Never applied.
        Kind("Event", "/api/v1", "events"),
        Kind("Node", "/api/v1", "nodes", namespaced=False),
        Kind("Secret", "/api/v1", "secrets"),
        Kind("ConfigMap", "/api/v1", "configmaps"),
    )
}
APPLIED = tuple(KINDS)[: tuple(KINDS).index("Pod")]


def kind_named(name: str) -> Kind:
    """Raises UserError for a kind that the suite does not know how to handle."""
    try:
        return KINDS[name]
    except KeyError:
        raise UserError(f"objects of kind {name} are not handled; see cluster/kinds.py") from None
