"""EndpointSlices as the API server sends them, and the replicas that they list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from lb.discovery.kubernetes.service import Service
from lb.errors import UserError
from lb.http.endpoint import Endpoint, Target, authority

# Kubernetes itself writes no slices of the third type, FQDN.
_FAMILIES = ("IPv4", "IPv6")
_DEFAULT_PORT = "http"
# The name is sent in a header; only a pod's name is certain to be valid there.
_POD_NAME = re.compile(r"[a-z0-9][-.a-z0-9]*", re.ASCII)


class _Shape(BaseModel):
    """The fields that are needed here; those with a default may be missing or null."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Conditions(_Shape):
    ready: bool | None = None
    terminating: bool | None = None


class TargetRef(_Shape):
    kind: str | None = None
    name: str | None = None


class SliceEndpoint(_Shape):
    addresses: tuple[str, ...]
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None


class Port(_Shape):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class Metadata(_Shape):
    name: str = ""
    resource_version: str


class EndpointSlice(_Shape):
    metadata: Metadata
    address_type: str
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[Port, ...] | None = None


class EndpointSliceList(_Shape):
    kind: Literal["EndpointSliceList"]
    metadata: Metadata
    items: tuple[EndpointSlice, ...] | None


class Change(_Shape):
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: EndpointSlice


class Marked(_Shape):
    metadata: Metadata


class Bookmark(_Shape):
    """A version up to which there are no more events."""

    type: Literal["BOOKMARK"]
    object: Marked


class Status(_Shape):
    code: int = 0


class Failure(_Shape):
    """The watch failed, although the status of its answer was 200."""

    type: Literal["ERROR"]
    object: Status


Event = Change | Bookmark
EVENTS: TypeAdapter[Event | Failure] = TypeAdapter(
    Annotated[Change | Bookmark | Failure, Field(discriminator="type")]
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An endpoint as one slice lists it."""

    endpoint: Endpoint
    family: str
    conditions: Conditions


class Slices:
    """The slices of `service`, as of the API server's `version`; "" before the first list."""

    def __init__(self, service: Service) -> None:
        self.version = ""
        self._service = service
        self._slices: dict[str, EndpointSlice] = {}

    def replace(self, listed: EndpointSliceList) -> None:
        self._slices = {one.metadata.name: one for one in listed.items or ()}
        self.version = listed.metadata.resource_version

    def apply(self, event: Event) -> None:
        if isinstance(event, Change):
            name = event.object.metadata.name
            if event.type == "DELETED":
                self._slices.pop(name, None)
            else:
                self._slices[name] = event.object
        self.version = event.object.metadata.resource_version

    def targets(self) -> tuple[Target, ...]:
        """Endpoints that are ready and not terminating, each once, sorted.

        While Kubernetes moves an endpoint between slices it is in both, and may be
        terminating in one of them only. A pod with addresses of two families is one replica,
        at its IPv4 address. Raises UserError if there are endpoints, but none has the port.
        """
        entries = self._entries()
        terminating = {entry.endpoint.name for entry in entries if entry.conditions.terminating}
        families: dict[str, str] = {}
        found: dict[str, Target] = {}
        for entry in entries:
            endpoint, pod = entry.endpoint, entry.endpoint.alias
            if pod is not None and families.setdefault(pod, entry.family) != entry.family:
                continue
            # Unknown is ready, by the API's definition.
            if entry.conditions.ready is not False and endpoint.name not in terminating:
                found.setdefault(endpoint.authority, Target(endpoint))
        return tuple(sorted(found.values(), key=lambda target: target.endpoint.name))

    def _entries(self) -> list[_Entry]:
        slices = [
            one for one in self._slices.values() if one.endpoints and one.address_type in _FAMILIES
        ]
        slices.sort(key=lambda one: (one.address_type, one.metadata.name))
        ports = [self._ports(one.ports or ()) for one in slices]
        if slices and not any(ports):
            raise self._no_such_port(slices)
        return [
            _Entry(
                Endpoint(host, port, authority(host, port), alias=_alias(each, port, numbers)),
                one.address_type,
                each.conditions or Conditions(),
            )
            for one, numbers in zip(slices, ports, strict=True)
            for each in one.endpoints or ()
            if (host := _host(each)) is not None
            for port in numbers
        ]

    def _ports(self, ports: Sequence[Port]) -> tuple[int, ...]:
        """The numbers of the service's port among a slice's `ports`; empty if it has none."""
        wanted = self._service.port
        if isinstance(wanted, tuple):
            return wanted
        numbers = _numbers(ports)
        if wanted is None and len(numbers) == 1:
            return tuple(numbers.values())
        found = numbers.get(wanted or _DEFAULT_PORT)
        return () if found is None else (found,)

    def _no_such_port(self, slices: Sequence[EndpointSlice]) -> UserError:
        wanted = self._service.port or _DEFAULT_PORT
        names = sorted({name for one in slices for name in _numbers(one.ports or ())})
        return UserError(
            f"{self._service} has no port named {wanted}, only {', '.join(names) or 'none'}: "
            "name another after a colon, or give the number that its pods listen on"
        )


def _numbers(ports: Sequence[Port]) -> dict[str, int]:
    """TCP ports by name; the only port of a service may have the name ""."""
    return {
        port.name or "": port.port
        for port in ports
        if port.port is not None and port.protocol in {None, "TCP"}
    }


def _host(each: SliceEndpoint) -> str | None:
    """Its first address; others are to be ignored, by the API's definition."""
    try:
        return ip_address(each.addresses[0]).compressed
    except (IndexError, ValueError):
        return None


def _alias(each: SliceEndpoint, port: int, ports: Sequence[int]) -> str | None:
    """The name of its pod, with the port if a pod has several; None if it is something else."""
    ref = each.target_ref
    if ref is None or ref.kind != "Pod" or not _POD_NAME.fullmatch(ref.name or ""):
        return None
    return ref.name if len(ports) == 1 else f"{ref.name}:{port}"
