"""The objects of a model's engines: engine.yaml, and what depends on model and hardware."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from bench.config.topology import Model, Topology
from bench.environments.containers.engine import (
    MOUNTED_MODEL,
    VLLM_VERSION,
    arguments,
    engine_container,
)
from bench.environments.kubernetes.objects import (
    ENGINE,
    MODEL_LABEL,
    OURS,
    Object,
    deployment_name,
    object_name,
)

TEMPLATE = Path(__file__).with_name("engine.yaml")
HARDWARE = Path(__file__).with_name("hardware.yaml")


def engine_objects(model: Model, topology: Topology, version: str) -> tuple[Object, ...]:
    """Deployment, Service and PodDisruptionBudget of a model's engines, without a namespace.

    `version` is that of the suite's own images.
    """
    deployment, service, budget = yaml.safe_load_all(TEMPLATE.read_text(encoding="utf-8"))
    name, service_name = deployment_name(model.name), object_name(model.name)
    # The selector of a Deployment can never be changed.
    selector = {"app.kubernetes.io/component": ENGINE, MODEL_LABEL: model.name}
    labels = {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/version": VLLM_VERSION,
        **OURS,
        **selector,
    }
    for one, named in ((deployment, name), (service, service_name), (budget, name)):
        one["metadata"].update(name=named, labels=labels)
    service["spec"]["selector"] = selector
    budget["spec"]["selector"]["matchLabels"] = selector
    deployment["spec"]["replicas"] = model.replicas
    deployment["spec"]["selector"]["matchLabels"] = selector
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] = labels
    template["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] = selector
    _fill_in(template["spec"], model, topology, version)
    return deployment, service, budget


def environment(variables: Mapping[str, str | Object]) -> list[Object]:
    """The `env` of a container. A variable is a text, or an object that says where it is from."""
    return [
        {"name": name, "value" if isinstance(value, str) else "valueFrom": value}
        for name, value in variables.items()
    ]


def _fill_in(pod: Object, model: Model, topology: Topology, version: str) -> None:
    """Fill in what the pod and its container have on the model's hardware, and for the model."""
    (container,) = pod["containers"]
    own = yaml.safe_load(HARDWARE.read_text(encoding="utf-8"))[model.hardware]
    engine = engine_container(model.hardware, topology, version, kvcached=False)
    if model.hardware == "gpu":
        for amounts in own["resources"].values():
            amounts["nvidia.com/gpu"] = str(model.gpus)
    if model.path is not None:
        source = {"path": str(model.path), "type": "Directory"}
        own["volumes"].append({"name": "model", "hostPath": source})
        mount = {"name": "model", "mountPath": MOUNTED_MODEL, "readOnly": True}
        own["volumeMounts"].append(mount)
    pod["securityContext"].update(runAsUser=engine.user, runAsGroup=engine.group)
    pod["volumes"] = own["volumes"]
    container["resources"].update(own["resources"])
    container.update(
        image=f"{engine.image}:{engine.tag}",
        args=[*arguments(model, topology), *container["args"]],
        env=environment({**engine.variables, **own.get("variables", {})}),
        volumeMounts=own["volumeMounts"],
    )
    for part, key, value in (
        (pod, "tolerations", own.get("tolerations")),
        (container, "command", list(engine.command)),
    ):
        part[key] = value
        if not value:
            del part[key]
