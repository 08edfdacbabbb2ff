"""The objects of engines that share GPUs: a pod owns a GPU, and has an engine of every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from bench.config.topology import Model, Topology
from bench.environments.containers.colocated import (
    COMMAND,
    LAUNCHER,
    MOUNTED_LAUNCHER,
    engine_lines,
    health_command,
    ports_of,
    times,
)
from bench.environments.containers.engine import engine_container
from bench.environments.kubernetes.manifests.engine import (
    fill_in,
    from_template,
    hardware_table,
    labels_of,
    set_gpus,
)
from bench.environments.kubernetes.objects import (
    COLOCATED,
    ENGINE,
    LAYOUT_LABEL,
    MODEL_LABEL,
    Object,
    object_name,
)

_LAUNCHER = "engine-launcher"
# As engine.yaml has it: what the startup probe allows an engine, and five minutes.
_START_S, _MORE_S = 1200, 300


def colocated_objects(
    models: Sequence[Model], topology: Topology, *, kvcached: bool
) -> tuple[Object, ...]:
    """ConfigMap of the launcher, Deployment, a Service for each model, and PodDisruptionBudget.

    `models` have the same number of replicas, which is that of the pods.
    """
    component = {"app.kubernetes.io/component": ENGINE}
    selector = {**component, LAYOUT_LABEL: "colocated"}
    lines = engine_lines(models, topology, kvcached=kvcached)
    ports = ports_of(lines)
    deployment, service, budget = from_template(COLOCATED, selector, models[0].replicas)
    launcher = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _LAUNCHER, "labels": labels_of(_LAUNCHER, component)},
        "data": {LAUNCHER.name: LAUNCHER.read_text(encoding="utf-8")},
    }
    spec = deployment["spec"]
    spec["progressDeadlineSeconds"] = _START_S * len(models) + _MORE_S
    pod = spec["template"]["spec"]
    engine = engine_container("gpu", topology, "", kvcached=kvcached)
    fill_in(pod, _hardware(len(models)), replace(engine, command=COMMAND), lines)
    _listen(pod["containers"][0], ports)
    services = (_service(service, model.name, ports[model.name]) for model in models)
    return launcher, deployment, *services, budget


def _hardware(engines: int) -> Object:
    """What the pod has of the hardware: one GPU, and of the rest what so many engines need."""
    own = hardware_table("gpu")
    for amounts in own["resources"].values():
        amounts.update({name: times(amount, engines) for name, amount in amounts.items()})
    for volume in own["volumes"]:
        if "sizeLimit" in volume.get("emptyDir", {}):
            volume["emptyDir"]["sizeLimit"] = times(volume["emptyDir"]["sizeLimit"], engines)
    set_gpus(own, 1)
    folder = f"{PurePosixPath(MOUNTED_LAUNCHER).parent}"
    own["volumes"].append({"name": "launcher", "configMap": {"name": _LAUNCHER}})
    own["volumeMounts"].append({"name": "launcher", "mountPath": folder, "readOnly": True})
    return own


def _listen(container: Object, ports: Mapping[str, int]) -> None:
    """Open the engines' ports; the container is ready, and lives, while all answer."""
    (first,) = container["ports"]
    container["ports"] = [
        {"name": f"{first['name']}-{index}" if index else first["name"], "containerPort": port}
        for index, port in enumerate(ports.values())
    ]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]
        del probe["httpGet"]
        probe["exec"] = {"command": health_command(ports)}
    container["startupProbe"]["failureThreshold"] *= len(ports)


def _service(template: Object, model: str, port: int) -> Object:
    """The Service of a model, which leads to its engine in each pod."""
    (first,) = template["spec"]["ports"]
    name = object_name(model)
    own = {"app.kubernetes.io/component": ENGINE, MODEL_LABEL: model}
    return {
        **template,
        "metadata": {"name": name, "labels": labels_of(COLOCATED, own)},
        "spec": {**template["spec"], "ports": [{**first, "targetPort": port}]},
    }
