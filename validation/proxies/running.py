"""The source and the proxies of a run, each on its core."""

from __future__ import annotations

from pathlib import Path

from validation.proxies.cores import Layout
from validation.proxies.peers import Peer
from validation.proxies.site import Site
from validation.sidebyside.answers import CHUNK_EVERY_MS
from validation.sidebyside.running import Servers, Target

# As many replicas as such a number of streams has: balancers bound what each may have.
_HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 9))


class Proxies:
    """Proxies in front of a source, each pinned by `layout`, until `close`.

    `root` is where `lb` can be imported from; logs and configuration go to `folder`.
    """

    def __init__(self, root: Path, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout
        self._servers = Servers(root, folder)
        self._replicas: tuple[str, ...] = ()

    def start_source(self) -> Target:
        """Start the source, first of all. Raises UserError if it does not answer."""
        source = self._servers.start_source(_HOSTS, CHUNK_EVERY_MS, {self._layout.source})
        self._replicas = tuple(f"{host}:{source.port}" for host in _HOSTS)
        return source

    def start(self, peer: Peer) -> Target:
        """Start a proxy in front of the source. Raises UserError if it does not answer."""
        port, metrics_port = next(self._servers.ports), next(self._servers.ports)
        command = peer.start(Site(port, metrics_port, self._replicas, self._folder))
        return self._servers.start(peer.name, command, port, {self._layout.proxy})

    def close(self) -> None:
        """End them all, the source last. Safe to repeat."""
        self._servers.close()
