"""A cluster that one run at a time may use: taken, kept and given back, and who has it."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic, sleep

from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.deploying import apply_one
from bench.environments.kubernetes.lease import DURATION_S, GIVE_UP_S, LEASE, Claim
from bench.environments.kubernetes.objects import LOAD_NAMESPACE, Resource
from bench.errors import UserError
from bench.processes.machine import duration, user_name
from bench.progress import Progress, Step

POLL_S = 2.0
RENEW_EVERY_S = 10.0
_KILLED = f"the lease of a run that was killed expires within {DURATION_S:.0f} s"


class HeldCluster:
    """A cluster that this run holds; a thread renews its lease until `close`."""

    def __init__(self, api: Api, claim: Claim) -> None:
        self._api = api
        self._claim = claim
        self._error = "the API server did not answer in time"
        self._closing = Event()
        self._thread = Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> str | None:
        """Why this run may not use the cluster any more, in one line; None if it may."""
        claim = self._claim
        if claim.is_held(monotonic()):
            return None
        if claim.is_mine:
            return f"its lease on the cluster was not renewed for {GIVE_UP_S:.0f} s: {self._error}"
        now = f"{claim.holder} has it now" if claim.holder else "somebody has deleted it"
        return f"its lease on the cluster was lost: {now}"

    def require(self) -> None:
        """Raise UserError if the lease is lost."""
        if lost := self.lost:
            raise UserError(f"this run ends: {lost}")

    def close(self) -> None:
        """Give the cluster back."""
        self._closing.set()
        self._thread.join()
        if self._claim.is_mine:
            with suppress(UserError):  # it expires by itself
                self._api.delete("Lease", LOAD_NAMESPACE, LEASE, self._claim.version)

    def _keep(self) -> None:
        while self._claim.is_mine and not self._closing.wait(RENEW_EVERY_S):
            try:
                _look(self._api, self._claim)
                if self._claim.is_mine:
                    _write(self._api, self._claim)
            except UserError as error:
                self._error = str(error)


@contextmanager
def hold_cluster(
    api: Api, namespace: Resource, what: str, progress: Progress, timeout_s: float
) -> Iterator[HeldCluster]:
    """Hold a cluster while the context lasts; `what` names this run to others.

    `namespace`, where the lease is, is created if it does not exist. Waits at most `timeout_s`
    seconds for another run, and so long as it is not known whether that lives. Raises UserError
    that names the holder then.
    """
    user, host = user_name(os.getuid()), platform.node()
    claim = Claim(f"{what} (user {user}, process {os.getpid()} on {host})")
    if not _take(api, namespace, claim):
        with progress.step(f"waiting for cluster {api.context}") as step:
            _wait(api, namespace, claim, step, progress, timeout_s)
    held = HeldCluster(api, claim)
    try:
        yield held
    finally:
        held.close()


def refuse_while_held(api: Api, progress: Progress) -> None:
    """Return when no run holds the cluster. Raises UserError that names one that does.

    A lease whose run was killed is watched until it has expired, and then deleted.
    """
    claim = Claim("")
    _look(api, claim)
    if not claim.holder:
        return
    with progress.step(f"looking whether {claim.holder} still uses cluster {api.context}") as step:
        while (left_s := claim.expires_in_s(monotonic())) > 0:
            if claim.is_renewed:
                raise UserError(
                    f"cluster {api.context} is in use by {claim.holder}; let it end, or end it: "
                    f"{_KILLED}"
                )
            step.update(f"if not, its lease expires in {duration(left_s)}")
            sleep(min(POLL_S, left_s))
            _look(api, claim)
    if claim.holder:
        api.delete("Lease", LOAD_NAMESPACE, LEASE, claim.version)


def _wait(
    api: Api,
    namespace: Resource,
    claim: Claim,
    step: Step,
    progress: Progress,
    timeout_s: float,
) -> None:
    """Return when the claim is held."""
    began_s, told = monotonic(), ""
    while True:
        now_s = monotonic()
        holder = claim.holder or "a run that is ending"
        if holder != told:
            progress.note(f"cluster {api.context} is in use by {holder}")
            told = holder
        left_s = began_s + timeout_s - now_s
        lives = claim.is_renewed or not claim.holder
        if left_s <= 0 and lives:
            raise UserError(
                f"cluster {api.context} is in use by {holder}; waited for {timeout_s:g} s, "
                f"--wait-for-run S allows more; let it end, or end it: {_KILLED}"
            )
        if lives:
            step.update(f"gives up in {duration(left_s)}")
        else:
            step.update(f"its lease expires in {duration(claim.expires_in_s(now_s))} if it is dead")
        sleep(POLL_S)
        if _take(api, namespace, claim):
            return


def _take(api: Api, namespace: Resource, claim: Claim) -> bool:
    """Look, and take the lease if nobody has it; whether it is held then."""
    _look(api, claim)
    if not claim.version:
        space = api.get("Namespace", None, namespace.name)
        if space is not None and space.is_terminating:
            return False  # with the lease of a run that takes itself down
        apply_one(api, namespace)
    if _write(api, claim):
        return True
    _look(api, claim)  # somebody else may have been faster
    return False


def _look(api: Api, claim: Claim) -> None:
    found = api.get("Lease", LOAD_NAMESPACE, LEASE)
    claim.see(found, monotonic())


def _write(api: Api, claim: Claim) -> bool:
    """Write the lease if the claim allows it; whether that succeeded."""
    sent_s = monotonic()
    date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    wanted = claim.wanted(sent_s, date)
    written = None if wanted is None else api.write(wanted)
    if written is not None:
        claim.written(written, sent_s, monotonic())
    return written is not None
