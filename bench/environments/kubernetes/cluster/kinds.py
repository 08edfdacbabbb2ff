"""The kinds of objects that are applied, watched and taken down."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import UserError


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
