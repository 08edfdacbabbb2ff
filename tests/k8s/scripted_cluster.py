"""A cluster in memory: objects as they are applied, pods of Jobs and Deployments, and programs.

A pod runs nothing. What is started in one by exec is a process of this machine, whose streams
go through a websocket as with a real API server (v5.channel.k8s.io): input and output in
binary, the end of the input, the exit code, and an input that ends with the connection.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from aiohttp import WSMsgType, web

from bench.environments.kubernetes.objects import Object

ROOT = Path(__file__).parents[2]
PROTOCOL = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS, OVER = 0, 1, 2, 3, 255
READY = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [
        {"name": "load", "image": "llm-bench:1", "imageID": "", "state": {"running": {}}}
    ],
}
NODE_INFO = {"architecture": "amd64", "kubeletVersion": "v1.32.13", "kernelVersion": "6.1.0"}
SUCCESS: Object = {"status": "Success"}


@dataclass
class Cluster:
    """What a test says of the cluster, and what became of it.

    `pod_status` gives the status of a Job's pod by its index, `come_up` says whether the pods of
    Deployments become ready. If `refusal`, a status and a message, is not None, exec is answered
    with it. `log` is that of every pod, `served` what pods answer by path, through the API server.
    """

    cores: int = 4
    protocols: tuple[str, ...] = (PROTOCOL,)
    pod_status: Callable[[int], Mapping[str, Any]] = lambda _: READY
    come_up: bool = True
    refusal: tuple[int, str] | None = None
    log: str = ""
    served: Mapping[str, str] = field(default_factory=dict)
    objects: dict[str, Object] = field(default_factory=dict)
    server: str = ""
    started: list[asyncio.subprocess.Process] = field(default_factory=list)
    _made: int = 0
    _version: int = 0
    _connections: list[asyncio.Transport] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None

    def names(self, plural: str) -> list[str]:
        """The names of the objects of a kind."""
        return sorted(path.rpartition("/")[2] for path in self.objects if f"/{plural}/" in path)

    @property
    def running(self) -> int:
        """How many programs run."""
        return sum(process.returncode is None for process in self.started)

    def next_version(self) -> str:
        """The `resourceVersion` of what is written now."""
        self._version += 1
        return str(self._version)

    def cut(self) -> None:
        """Break all connections of programs, without a word."""
        for transport in self._connections:
            self._do(transport.abort)

    def delete_pod(self, place: int) -> None:
        """What `kubectl delete pod` does: its processes are killed."""
        (path,) = [one for one in self.objects if f"/pods/load-{place}-" in one]
        del self.objects[path]
        for process in self.started[:]:
            if process.returncode is None:
                self._do(process.kill)

    def _do(self, work: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(work)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request of the API."""
        path = request.path
        if path.endswith("/exec"):
            return await self._execute(request)
        if request.method != "GET":
            said = json.loads(await request.read() or "{}")
            status, body = self._change(request.method, path, said)
            return web.json_response(body, status=status)
        if path.endswith("/log") or "/proxy/" in path:
            return self._from_pod(path, request.query)
        found = self._found(path, request.query)
        if found is None:
            return web.json_response({"message": f"{path} not found"}, status=404)
        return web.json_response(found)

    def _from_pod(self, path: str, query: Mapping[str, str]) -> web.Response:
        at, _, asked = path.partition("/proxy")
        if not asked:
            lines = self.log.splitlines(keepends=True)
            return web.Response(text="".join(lines[-int(query.get("tailLines", 9999)) :]))
        pod, _, port = at.rpartition(":")
        opened = self.objects[pod]["spec"]["containers"][0]["ports"]
        known = [one["containerPort"] for one in opened]
        if int(port) not in known or asked not in self.served:
            return web.json_response({"message": "error trying to reach service"}, status=503)
        return web.Response(text=self.served[asked])

    def _found(self, path: str, query: Mapping[str, str]) -> Object | None:
        if path == "/version":
            return {"gitVersion": "v1.32.13"}
        if path in {"/api", "/apis"}:
            return {"items": []}
        if path.rpartition("/")[2] in PLURALS:
            return {"items": self._listed(path, query)}
        return self.objects.get(path)

    def _listed(self, path: str, query: Mapping[str, str]) -> list[Object]:
        prefix, _, plural = path.rpartition("/")
        if plural == "nodes":
            size = {"cpu": str(self.cores), "memory": "16Gi"}
            status = {"allocatable": size, "nodeInfo": NODE_INFO}
            return [{"metadata": {"name": "node1"}, "spec": {}, "status": status}]
        wanted = dict(one.split("=") for one in query.get("labelSelector", "").split(",") if one)
        return [
            one
            for at, one in self.objects.items()
            if f"/{plural}/" in at
            and at.startswith(prefix)
            and wanted.items() <= one["metadata"].get("labels", {}).items()
        ]

    def _change(self, method: str, path: str, said: Object) -> tuple[int, Object]:
        if method == "PATCH":
            return 200, self._patch(path, said)
        if method in {"POST", "PUT"}:
            return self._write(path, said)
        if not self._is_version(path, said.get("preconditions") or {}):
            return 409, {"message": f"{path} has changed"}
        self._delete(path)
        return 200, SUCCESS

    def _patch(self, path: str, said: Object) -> Object:
        if path.endswith("/scale"):
            return self._scale(path.removesuffix("/scale"), said)
        return self._apply(path, said)

    def _write(self, path: str, wanted: Object) -> tuple[int, Object]:
        """Create an object (POST), or replace the version of it that is named (PUT)."""
        meta = wanted["metadata"]
        replaces = "resourceVersion" in meta
        path = path if replaces else f"{path}/{meta['name']}"
        if f"/api/v1/namespaces/{meta['namespace']}" not in self.objects:
            return 404, {"message": "its namespace is not found"}
        if replaces != (path in self.objects) or not self._is_version(path, meta):
            return 409, {"message": f"{path} has changed"}
        meta["resourceVersion"] = self.next_version()
        self.objects[path] = wanted
        return 200, wanted

    def _is_version(self, path: str, named: Mapping[str, str]) -> bool:
        """Whether the object has the version that is named, if any is."""
        version = named.get("resourceVersion")
        found = self.objects.get(path, {"metadata": {}})["metadata"]
        return version is None or found.get("resourceVersion") == version

    def _apply(self, path: str, wanted: Object) -> Object:
        self._made += 1
        wanted["metadata"]["uid"] = f"{path} {self._made}"
        self.objects[path] = wanted
        if wanted["kind"] == "Job":
            for place in range(wanted["spec"]["completions"]):
                self._place(wanted, place)
        if wanted["kind"] == "Deployment":
            self._roll_out(wanted)
        return wanted

    def _scale(self, path: str, said: Object) -> Object:
        deployment = self.objects[path]
        deployment["spec"]["replicas"] = said["spec"]["replicas"]
        self._roll_out(deployment)
        return said

    def _roll_out(self, deployment: Object) -> None:
        """New pods in place of all that there were, under names that none has had."""
        self._remove_pods(deployment)
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        count = deployment["spec"].get("replicas", 1)
        for _ in range(count):
            self._made += 1
            name = f"{meta['name']}-7d9-{self._made:05}"
            self.objects[f"/api/v1/namespaces/{meta['namespace']}/pods/{name}"] = {
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": template["metadata"]["labels"],
                },
                "spec": {**template["spec"], "nodeName": "node1"},
                "status": {
                    **(READY if self.come_up else {"phase": "Pending"}),
                    "podIP": "10.0.0.1",
                },
            }
        ready = count if self.come_up else 0
        meta["generation"] = 1
        deployment["status"] = {
            "observedGeneration": 1,
            **dict.fromkeys(("replicas", "updatedReplicas"), count),
            "readyReplicas": ready,
        }

    def _remove_pods(self, owner: Object) -> None:
        meta = owner["metadata"]
        pods = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}-"
        for one in [one for one in self.objects if one.startswith(pods)]:
            del self.objects[one]

    def _place(self, job: Object, place: int) -> None:
        meta, template = job["metadata"], job["spec"]["template"]
        name = f"{meta['name']}-{place}-x7k2p"
        labels = {
            **template["metadata"]["labels"],
            "batch.kubernetes.io/job-completion-index": str(place),
        }
        self.objects[f"/api/v1/namespaces/{meta['namespace']}/pods/{name}"] = {
            "kind": "Pod",
            "metadata": {"name": name, "namespace": meta["namespace"], "labels": labels},
            "spec": {**template["spec"], "nodeName": "node1"},
            "status": dict(self.pod_status(place)),
        }

    def _delete(self, path: str) -> None:
        gone = self.objects.pop(path, None)
        if gone and gone["kind"] in {"Job", "Deployment"}:
            self._remove_pods(gone)
        if gone and gone["kind"] == "Namespace":
            name = gone["metadata"]["name"]
            for one in [one for one in self.objects if f"/namespaces/{name}/" in one]:
                del self.objects[one]

    async def _execute(self, request: web.Request) -> web.StreamResponse:
        pod = request.path.removesuffix("/exec")
        if self.refusal is not None:
            status, message = self.refusal
            return web.json_response({"message": message}, status=status)
        if pod not in self.objects:
            message = f'pods "{pod.rpartition("/")[2]}" not found'
            return web.json_response({"message": message}, status=404)
        socket = web.WebSocketResponse(protocols=self.protocols, autoping=True)
        await socket.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self._connections.append(request.transport)
        command = request.query.getall("command")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable if word in {"python", "python3"} else word for word in command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self.started.append(process)
        feeding = asyncio.create_task(_feed(socket, process))
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(
            _show(socket, STDOUT, process.stdout), _show(socket, STDERR, process.stderr)
        )
        ending = bytes([STATUS]) + _status(await process.wait())
        with suppress(ConnectionError):
            await socket.send_bytes(ending)
            await socket.close()
        await feeding
        return socket


PLURALS = {
    *("namespaces", "priorityclasses", "serviceaccounts", "roles", "rolebindings"),
    *("networkpolicies", "persistentvolumeclaims", "services", "poddisruptionbudgets"),
    *("deployments", "jobs", "pods", "events", "nodes", "secrets", "configmaps"),
    "leases",
}


async def _feed(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    """Hand on what comes, and close the input when that is said, or the connection is gone."""
    assert process.stdin is not None
    async for message in socket:
        if message.type != WSMsgType.BINARY or message.data == bytes([OVER, STDIN]):
            break
        assert message.data[0] == STDIN
        try:
            process.stdin.write(message.data[1:])
            await process.stdin.drain()
        except ConnectionError:
            break  # the program does not listen any more
    process.stdin.close()
    async for _ in socket:
        pass
    with suppress(ConnectionError):
        await process.stdin.wait_closed()


async def _show(socket: web.WebSocketResponse, stream: int, said: asyncio.StreamReader) -> None:
    while data := await said.read(32 * 1024):
        with suppress(ConnectionError):  # the other side has gone
            await socket.send_bytes(bytes([stream]) + data)


def _status(code: int) -> bytes:
    if not code:
        return json.dumps(SUCCESS).encode()
    shown = str(code if code > 0 else 128 - code)
    causes = [{"reason": "ExitCode", "message": shown}]
    failure = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    return json.dumps(failure).encode()


@contextmanager
def scripted_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """The API server of `cluster`, while the context lasts."""
    up, over = Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", cluster.answer)
        runner = web.AppRunner(app, shutdown_timeout=10.0)  # programs end meanwhile
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        cluster.server = f"http://127.0.0.1:{runner.addresses[0][1]}"
        cluster._loop = asyncio.get_running_loop()
        up.set()
        await over.wait()
        await runner.cleanup()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    up.wait()
    try:
        yield cluster
    finally:
        cluster._do(over.set)
        thread.join()
