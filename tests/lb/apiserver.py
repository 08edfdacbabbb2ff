"""A scripted Kubernetes API server on a real socket, as far as EndpointSlices go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme

from lb.discovery.kubernetes import Pace, ServiceAccount, WatchedService, parse_service

NAMESPACE, SERVICE = "managed", "engines"
QUICK = Pace(watch_s=20, margin_s=10, answer_s=5, first_pause_s=0.01, longest_pause_s=0.05)
_RESOURCE = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


def pod(
    name: str, address: str, *, ready: bool | None = True, terminating: bool | None = False
) -> dict[str, Any]:
    """An entry of a slice; None stands for a field that is not set."""
    conditions = {"ready": ready, "serving": True, "terminating": terminating}
    return {
        "addresses": [address],
        "conditions": {key: value for key, value in conditions.items() if value is not None},
        "nodeName": "node",
        "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": name},
    }


def endpoint_slice(
    name: str, *endpoints: dict[str, Any], family: str = "IPv4", **ports: int
) -> dict[str, Any]:
    """What a controller writes; without `ports` it has port 8000, called http."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": SERVICE},
            # Go writes these as they are; some are ends of lines to others than JSON.
            "annotations": {"note": "one\x85two\x0cthree"},
        },
        "addressType": family,
        "endpoints": list(endpoints) or None,
        "ports": [
            {"name": each, "port": number, "protocol": "TCP"}
            for each, number in (ports or {"http": 8000}).items()
        ],
    }


@dataclass(eq=False)
class Watcher:
    """A client that watches, on a connection that is written to in pieces."""

    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        middle = len(data) // 2
        for piece in (data[:middle], data[middle:]):
            if piece:
                self.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))


@dataclass
class ApiServer:
    """`folder` is made into what a pod with a ServiceAccount sees of it.

    `asked` are the requests so far: "list", or "watch" and the version that it goes on
    from. A verb in `refused` is answered with that status; with `silent` nothing is
    answered at all.
    """

    folder: Path
    token: str = "first"
    refused: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    asked: list[str] = field(default_factory=list)
    watchers: set[Watcher] = field(default_factory=set)
    version: int = 1
    oldest: int = 0

    def __post_init__(self) -> None:
        self._slices: dict[str, dict[str, Any]] = {}
        self._history: list[tuple[int, bytes]] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._authority = trustme.CA()
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self._server: asyncio.Server
        self.port = 0

    async def __aenter__(self) -> ApiServer:
        self.folder.mkdir(exist_ok=True)
        self._authority.cert_pem.write_to_path(self.folder / "ca.crt")
        (self.folder / "namespace").write_text(f"{NAMESPACE}\n")
        self.rotate(self.token)
        await self.come_back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_away()

    @property
    def environ(self) -> dict[str, str]:
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
        }

    def source(self, service: str = SERVICE, pace: Pace = QUICK) -> WatchedService:
        account = ServiceAccount.in_pod(self.environ, self.folder)
        return WatchedService(account, parse_service(service, account.namespace), pace)

    # What happens in the cluster.

    def put(self, *slices: dict[str, Any]) -> None:
        for each in slices:
            name = each["metadata"]["name"]
            kind = "MODIFIED" if name in self._slices else "ADDED"
            self._slices[name] = each
            self._happens(kind, each)

    def delete(self, name: str) -> None:
        self._happens("DELETED", self._slices.pop(name))

    def bookmark(self) -> None:
        self.version += 1
        self._send_all(_line("BOOKMARK", {"kind": "EndpointSlice"}, self.version))

    def rotate(self, token: str) -> None:
        """Only this token is accepted from now on."""
        self.token = token
        (self.folder / "token").write_text(token)

    # How the API server behaves.

    async def go_away(self) -> None:
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def come_back(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def forget(self) -> None:
        """Watches can go on from now only."""
        self._history.clear()
        self.oldest = self.version

    def end_watches(self) -> None:
        """As it does after the time that was asked for."""
        for watcher in tuple(self.watchers):
            watcher.writer.write(b"0\r\n\r\n")
            watcher.writer.close()

    def put_and_cut(self, thing: dict[str, Any]) -> None:
        """Break every watch in the middle of the line that tells of this."""
        watchers, self.watchers = self.watchers, set()
        self.put(thing)
        _, line = self._history[-1]
        for watcher in watchers:
            watcher.send(line[: len(line) // 2])
            watcher.writer.close()

    def say(self, line: bytes) -> None:
        """A line of the test's own making, to all who watch."""
        self._send_all(line + b"\n")

    async def watched(self, count: int = 1) -> None:
        """Wait until so many watch."""
        async with asyncio.timeout(20):
            while len(self.watchers) != count:
                await asyncio.sleep(0.005)

    async def was_asked(self, wanted: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.asked.count(wanted) < times:
                await asyncio.sleep(0.005)

    def _happens(self, kind: str, thing: dict[str, Any]) -> None:
        self.version += 1
        line = _line(kind, thing, self.version)
        self._history.append((self.version, line))
        self._send_all(line)

    def _send_all(self, line: bytes) -> None:
        for watcher in self.watchers:
            watcher.send(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                await self._serve_one(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        method, target, _ = head.partition("\r\n")[0].split(" ")
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        verb = "watch" if query.get("watch") == "true" else "list"
        self.asked.append(f"watch {query['resourceVersion']}" if verb == "watch" else verb)
        assert (method, parts.path) == ("GET", _RESOURCE)
        assert query["labelSelector"] == f"kubernetes.io/service-name={SERVICE}"
        if self.silent:
            await reader.read()
        elif f"authorization: bearer {self.token}\r\n".lower() not in head.lower():
            writer.write(_answer(401))
        elif verb in self.refused:
            writer.write(_answer(self.refused[verb]))
        elif verb == "list":
            writer.write(_answer(200, self._list()))
        else:
            assert query["allowWatchBookmarks"] == "true"
            await self._watch(reader, writer, int(query["resourceVersion"]))

    def _list(self) -> dict[str, Any]:
        return {
            "kind": "EndpointSliceList",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"resourceVersion": str(self.version)},
            "items": [_with_version(each, self.version) for each in self._slices.values()],
        }

    async def _watch(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int
    ) -> None:
        watcher = Watcher(writer)
        writer.write(_HEAD)
        if version < self.oldest:
            watcher.send(_line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}, 0))
            writer.write(b"0\r\n\r\n")
            return
        for happened, line in self._history:
            if happened > version:
                watcher.send(line)
        self.watchers.add(watcher)
        try:
            await reader.read()
        finally:
            self.watchers.discard(watcher)


def _with_version(thing: dict[str, Any], version: int) -> dict[str, Any]:
    metadata = {**thing.get("metadata", {}), "resourceVersion": str(version)}
    return {**thing, "metadata": metadata}


def _line(kind: str, thing: dict[str, Any], version: int) -> bytes:
    event = {"type": kind, "object": _with_version(thing, version)}
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


def _answer(status: int, content: dict[str, Any] | None = None) -> bytes:
    body = json.dumps(content or {"kind": "Status", "code": status}, ensure_ascii=False).encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
