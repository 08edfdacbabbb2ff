"""The objects of a model's engines: engine.yaml, and what depends on model and hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from bench.config.topology import Hardware, Model, Topology
from bench.environments.containers.engine import (
    MOUNTED_MODEL,
    VLLM_VERSION,
    EngineContainer,
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
    # The selector of a Deployment can never be changed.
    selector = {"app.kubernetes.io/component": ENGINE, MODEL_LABEL: model.name}
    deployment, service, budget = from_template(
        deployment_name(model.name), selector, model.replicas
    )
    service["metadata"]["name"] = object_name(model.name)
    pod = deployment["spec"]["template"]["spec"]
    own = hardware_table(model.hardware)
    engine = engine_container(model.hardware, topology, version, kvcached=False)
    if model.hardware == "gpu":
        set_gpus(own, model.gpus)
    if model.path is not None:
        source = {"path": str(model.path), "type": "Directory"}
        own["volumes"].append({"name": "model", "hostPath": source})
        mount = {"name": "model", "mountPath": MOUNTED_MODEL, "readOnly": True}
        own["volumeMounts"].append(mount)
    fill_in(pod, own, engine, [*arguments(model, topology), *pod["containers"][0]["args"]])
    return deployment, service, budget


def from_template(
    name: str, selector: Mapping[str, str], replicas: int
) -> tuple[Object, Object, Object]:
    """Deployment, Service and PodDisruptionBudget, all called `name`, for pods of `selector`."""
    deployment, service, budget = yaml.safe_load_all(TEMPLATE.read_text(encoding="utf-8"))
    labels = labels_of(name, selector)
    for one in (deployment, service, budget):
        one["metadata"].update(name=name, labels=labels)
    service["spec"]["selector"] = selector
    budget["spec"]["selector"]["matchLabels"] = selector
    deployment["spec"]["replicas"] = replicas
    deployment["spec"]["selector"]["matchLabels"] = selector
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] = labels
    template["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] = selector
    return deployment, service, budget


def labels_of(name: str, own: Mapping[str, str]) -> Mapping[str, str]:
    """The labels of an object of engines."""
    return {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/version": VLLM_VERSION,
        **OURS,
        **own,
    }


def hardware_table(hardware: Hardware) -> Object:
    """What hardware.yaml says of engines on that hardware, to be changed by the caller."""
    made: Object = yaml.safe_load(HARDWARE.read_text(encoding="utf-8"))[hardware]
    return made


def set_gpus(own: Object, count: int) -> None:
    """Let a pod have so many GPUs."""
    for amounts in own["resources"].values():
        amounts["nvidia.com/gpu"] = str(count)


def environment(variables: Mapping[str, str | Object]) -> list[Object]:
    """The `env` of a container. A variable is a text, or an object that says where it is from."""
    return [
        {"name": name, "value" if isinstance(value, str) else "valueFrom": value}
        for name, value in variables.items()
    ]


def fill_in(pod: Object, own: Object, engine: EngineContainer, args: Sequence[str]) -> None:
    """Fill in what the pod and its container have on the hardware of `own`."""
    (container,) = pod["containers"]
    pod["securityContext"].update(runAsUser=engine.user, runAsGroup=engine.group)
    pod["volumes"] = own["volumes"]
    container["resources"].update(own["resources"])
    container.update(
        image=f"{engine.image}:{engine.tag}",
        args=list(args),
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
