"""What a real balancer finds and serves of the engines that an overlay has.

Stands in for the cluster alone: endpoints of Service `engines` are the pods that its selector
picks, and each answers with the name that its arguments give it. `python -m tests.k8s.discovered
OVERLAY` prints the models that the balancer lists, and by whom a request for each was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

from bench.environments.kubernetes.manifests.files import K8S
from bench.environments.kubernetes.objects import Object
from tests.k8s.built import find, templates
from tests.lb.apiserver import SERVICE, ApiServer, endpoint_slice, pod
from tests.lb.running import started
from tests.lb.scripted import ScriptedReplica


def objects_of(folder: Path) -> Iterator[Object]:
    """The objects of a kustomization and of those that it takes in, unpatched: without kubectl."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    for path in (folder / resource for resource in kustomization["resources"]):
        if path.is_dir():
            yield from objects_of(path)
        else:
            yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def engines_of(folder: Path) -> dict[str, str]:
    """The pods that Service `engines` picks, by the workload's name: the model that each serves."""
    objects = list(objects_of(folder))
    service = find(objects, "Service", SERVICE)["spec"]
    (port,) = service["ports"]
    served = {}
    for workload, template in templates(objects, "Deployment"):
        if not service["selector"].items() <= template["metadata"]["labels"].items():
            continue
        (container,) = template["spec"]["containers"]
        assert port["targetPort"] in [one["name"] for one in container["ports"]]
        args = container["args"]
        served[workload] = args[args.index("--served-model-name") + 1]
    return served


async def discovered(folder: Path) -> dict[str, str]:
    """The models that a balancer with this overlay's arguments lists, and who answers for each."""
    served = engines_of(folder)
    (balancer,) = [
        template["spec"]["containers"][0]
        for workload, template in templates(list(objects_of(folder)), "Deployment")
        if workload == "balancer"
    ]
    (finding,) = [one for one in balancer["args"] if one.startswith("--endpoints-kubernetes=")]
    async with contextlib.AsyncExitStack() as stack:
        account = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "account"
        api = await stack.enter_async_context(ApiServer(account))
        for workload, model in served.items():
            replica = await stack.enter_async_context(ScriptedReplica(models=[model]))
            port = int(replica.url.rpartition(":")[2])
            api.put(endpoint_slice(workload, pod(workload, "127.0.0.1"), http=port))
        arguments = ("--policy", "round-robin", finding, "--service-account", str(api.folder))
        running = await stack.enter_async_context(started(*arguments, **api.environ))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20)
        )
        models: list[str] = []
        async with asyncio.timeout(60):
            while len(models) < len(served):
                await asyncio.sleep(0.02)
                listed = (await client.get("/v1/models")).json()
                models = [one["id"] for one in listed.get("data", [])]
        answers = {
            model: await client.post("/v1/completions", json={"model": model}) for model in models
        }
    return {model: answer.headers["x-lb-replica"] for model, answer in answers.items()}


if __name__ == "__main__":
    for model, replica in asyncio.run(discovered(K8S / "overlays" / sys.argv[1])).items():
        print(f"{model}: {replica}")
