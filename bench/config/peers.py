"""Programs of others that can balance an arm, as `bench/peers.yaml` declares them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench.config.yamlfile import load_yaml, strict
from bench.errors import UserError

DEFAULT_PEERS = Path(__file__).parents[1] / "peers.yaml"
# Peers and arms name files.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@strict
@dataclass(frozen=True, slots=True)
class Ready:
    """What a peer answers once it knows all its replicas: `text` is in its answer to `path`."""

    path: str
    text: str


@strict
@dataclass(frozen=True, slots=True)
class Peer:
    """How a program is found, installed, asked for its version, started, and known to be ready.

    `program` is a name to look for, or the path where it was found. `start` and `version` are
    command lines, `configuration` is the text of the file that it starts with, if any. These and
    the text of `ready` are Jinja templates: `bench.environments.peers.values` has the names for
    `start` and `configuration`, of which `ready` has `replicas`, and `version` the first two.
    `reads` is a regular expression whose group is the version in what `version` prints; it does
    not match another program of the same name. `models` says whether an instance serves one model
    or all. `arms` has, by the name of an arm, the `policy` of its balancer as the templates have
    it.
    """

    install: str
    start: str
    version: str
    reads: str
    program: str = ""
    configuration: str = ""
    models: Literal["one", "all"] = "one"
    ready: Ready | None = None
    arms: Mapping[str, str] = field(default_factory=dict, hash=False)
    name: str = ""
    policy: str = ""

    @property
    def absent(self) -> str:
        """What is said where its program is not installed."""
        return f"{self.name} is absent; install it with: {self.install}"


def load_peers(path: Path = DEFAULT_PEERS) -> dict[str, Peer]:
    """Every peer with one of its policies, by the name of the arm.

    Raises UserError with one line for any mistake in the file.
    """
    found: dict[str, Peer] = {}
    for name, peer in load_yaml(path, dict[str, Peer]).items():
        if wrong := [one for one in (name, *peer.arms) if not _NAME.fullmatch(one)]:
            raise UserError(
                f"{path}: {wrong[0][:80]!r} is no name: letters, digits, '.', '_', '-', 64 at most"
            )
        if peer.name or peer.policy:
            raise UserError(f"{path}: {name}: its key is the name, and `arms` have the policies")
        program = peer.program or name
        if not Path(program).name:
            raise UserError(f"{path}: {name}: program: {program!r} is neither a name nor a path")
        if not _has_group(peer.reads):
            raise UserError(f"{path}: {name}: reads: {peer.reads!r} has no group for the version")
        for arm, policy in peer.arms.items():
            if arm in found:
                raise UserError(f"{path}: {name}: arm {arm!r} is of {found[arm].name}, too")
            found[arm] = replace(peer, name=name, program=program, policy=policy)
    return found


def _has_group(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups > 0
    except re.error:
        return False


def located(peer: Peer, cache: Path) -> Peer | None:
    """The peer with the path of its program; None where that is not installed.

    What was installed for this suite, under `cache`, comes before what is on PATH.
    """
    # Debian keeps servers where only root's path leads.
    places = (str(cache / "peers" / peer.name / "bin"), None, "/usr/local/sbin:/usr/sbin")
    paths = (shutil.which(peer.program, path=place) for place in places)
    path = next(filter(None, paths), None)
    return None if path is None else replace(peer, program=path)
