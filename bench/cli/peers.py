"""`python -m bench peers`: balancers of others that can be an arm."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from bench.config.options import Options
from bench.config.peers import Peer, load_peers, located
from bench.environments.peers import version_of
from bench.errors import UserError
from bench.paths import ROOT


def peers(_: Options, __: str) -> int:
    """List the balancers of others that --arms takes, with versions, or how to install them."""
    for peer in {one.name: one for one in load_peers().values()}.values():
        print(f"{_state(peer)}\n  --arms {', '.join(peer.arms)}")
    return 0


def _state(peer: Peer) -> str:
    """`nginx 1.22.1`, or what is wrong."""
    found = located(peer, ROOT / ".cache")
    if found is None:
        return peer.absent
    with TemporaryDirectory() as folder:
        try:
            return f"{version_of(found, Path(folder))} ({found.program})"
        except UserError as error:
            return str(error)
