"""What sets one kind of engine apart from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The version of vLLM in all images of engines.
VLLM_VERSION = "0.30.0"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume and where it is mounted; `source` is the volume's, as in a pod."""

    name: str
    path: str
    source: Mapping[str, Any]
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine's container and what its pod needs for it.

    `command` is the image's own if empty. `user` and `group` are numbers that the image
    knows.
    """

    image: str
    command: Sequence[str]
    arguments: Sequence[str]
    variables: Sequence[Mapping[str, Any]]
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    user: int
    group: int
    volumes: Sequence[Volume]
    tolerations: Sequence[Mapping[str, Any]] = ()


def variable(name: str, value: str) -> Mapping[str, Any]:
    """An environment variable."""
    return {"name": name, "value": value}


def memory(name: str, path: str, size: str) -> Volume:
    """A folder in memory, which counts for the pod's limit."""
    return Volume(name, path, {"emptyDir": {"medium": "Memory", "sizeLimit": size}})


def scratch(name: str, path: str, size: str) -> Volume:
    """A folder on the node's disk that goes with the pod."""
    return Volume(name, path, {"emptyDir": {"sizeLimit": size}})


def node_folder(name: str, path: str, node_path: str, *, read_only: bool = False) -> Volume:
    """A folder of the node. It has to be there: one made for the pod would be root's."""
    return Volume(name, path, {"hostPath": {"path": node_path, "type": "Directory"}}, read_only)
