"""Messages as lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

from lb.endpoint import Endpoint, authority
from lb.replicas import Replica

LINE_BYTES = 16 * 1024 * 1024


def send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    # json and not orjson: it knows infinity, which some of the times are.
    writer.write(json.dumps(message).encode() + b"\n")


def news_of(replicas: Iterable[Replica]) -> dict[str, Any]:
    """What is known of the replicas."""
    return {
        "replicas": [
            {"address": address_of(replica.endpoint), "facts": replica.facts()}
            for replica in replicas
        ]
    }


def address_of(endpoint: Endpoint) -> list[str | int | None]:
    prefix = endpoint.prefix.decode("ascii")
    return [endpoint.host, endpoint.port, endpoint.alias, prefix, endpoint.tls]


def endpoint_at(address: list[Any]) -> Endpoint:
    host, port, alias, prefix, tls = address
    return Endpoint(
        host, port, authority(host, port), alias=alias, prefix=prefix.encode("ascii"), tls=tls
    )
