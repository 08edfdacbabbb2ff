"""Peers as processes: their command lines, their files, what they are, and when they are ready."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import StrictUndefined, Template, TemplateError

from bench.config.peers import Peer, Ready
from bench.config.topology import Arm
from bench.errors import UserError
from bench.processes.guarded import error_in, run_bounded
from bench.records import Replica

# What vLLM runs at once on most GPUs if nobody says otherwise.
USUAL_SEQS = 256
_VERSION_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance of a peer runs, and what is behind it.

    It listens on `port` of loopback, and may use `metrics_port`. Its files go to `folder`. Each
    of `replicas` runs `max_num_seqs` sequences at once.
    """

    port: int
    metrics_port: int
    replicas: tuple[Replica, ...]
    folder: Path
    max_num_seqs: int = USUAL_SEQS


def values(peer: Peer, place: Place) -> dict[str, Any]:
    """What templates of a peer may name.

    `replicas` have `model`, `url` and `address` (host:port); `configuration` is the path of its
    file, `python` the interpreter beside its program.
    """
    return {
        "program": peer.program,
        "python": Path(peer.program).with_name("python"),
        "policy": peer.policy,
        "port": place.port,
        "metrics_port": place.metrics_port,
        "replicas": [
            {"model": one.model, "url": one.url, "address": urlsplit(one.url).netloc}
            for one in place.replicas
        ],
        "max_num_seqs": place.max_num_seqs,
        "folder": place.folder,
        "configuration": place.folder / f"{peer.name}.conf",
    }


def command_of(peer: Peer, place: Place) -> list[str]:
    """The command that starts an instance; its configuration is written before.

    Raises UserError for a mistake in a template.
    """
    known = values(peer, place)
    place.folder.mkdir(parents=True, exist_ok=True)
    if peer.configuration:
        text = _filled(peer, peer.configuration, known)
        known["configuration"].write_text(text, encoding="utf-8")
    return _words(peer, peer.start, known)


def why_not_ready(peer: Peer, ready: Ready, replicas: Sequence[Replica], answer: str) -> str | None:
    """What is wrong with the `answer` to the path of `ready`; None if nothing is."""
    wanted = _filled(peer, ready.text, {"replicas": replicas})
    return None if wanted in answer else f"it answers {answer[:100]!r}, without {wanted!r}"


def version_of(peer: Peer, folder: Path) -> str:
    """`nginx 1.22.1`, by what the program says; its log goes to `folder`.

    Raises UserError where the program is another one, or does not say what it is.
    """
    known = {"program": peer.program, "python": Path(peer.program).with_name("python")}
    command = _words(peer, peer.version, known)
    log = folder / f"version-{peer.name}.log"
    log.unlink(missing_ok=True)
    run_bounded(peer.name, command, log=log, limit_s=_VERSION_TIMEOUT_S)
    said = log.read_text(encoding="utf-8", errors="replace")
    if (found := re.search(peer.reads, said, re.MULTILINE)) is None:
        raise UserError(
            f"{peer.program} does not say that it is {peer.name}: {error_in(said)}; see {log}, or "
            f"install it with: {peer.install}"
        )
    return f"{peer.name} {found[1]}"


def balancer_facts(arms: Iterable[Arm], folder: Path) -> dict[str, Mapping[str, Any]]:
    """By arm: the version of its peer, for its provenance; nothing of other arms.

    Raises UserError like `version_of`.
    """
    peers = {arm.name: arm.peer for arm in arms if arm.peer is not None}
    return {name: {"balancer": version_of(peer, folder)} for name, peer in peers.items()}


def require_reachable(arm: str, replicas: Sequence[Replica], headers: Mapping[str, str]) -> None:
    """Raise UserError where peers cannot reach `replicas` as the client does.

    They get host and port of each, and neither keys nor CAs.
    """
    for replica in replicas:
        url = urlsplit(replica.url)
        if url.scheme != "http" or url.path.strip("/"):
            raise UserError(
                f"arm {arm} takes replicas at http://HOST:PORT, seen {replica.url}; an arm with a "
                "policy takes others, or start it yourself and give its URL with --url"
            )
    if any(name.lower() == "authorization" for name in headers):
        raise UserError(
            f"arm {arm} gets no key for its replicas; an arm with a policy does, or start it "
            "yourself and give its URL with --url"
        )


def _words(peer: Peer, text: str, known: Mapping[str, Any]) -> list[str]:
    filled = _filled(peer, text, known)
    try:
        return shlex.split(filled)
    except ValueError as error:
        raise UserError(f"peer {peer.name}: {error} in {filled.strip()[:80]!r}") from None


def _filled(peer: Peer, text: str, known: Mapping[str, Any]) -> str:
    try:
        made = Template(text, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        filled: str = made.render(known)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"peer {peer.name}: {error} in {text.strip()[:80]!r}") from None
    return filled
