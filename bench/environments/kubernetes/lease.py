"""Who may use a cluster, by a Lease: what one contender has seen of it, and what it may write.

As in leader election: clocks of different machines are never compared. A lease has expired when it
was not renewed for as long as it lasts, by the clock of the one who watches. Its holder gives it up
earlier, counting from before its last renewal was sent. Whoever writes names the version that was
seen, so that only one of several writes succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.environments.kubernetes.objects import LOAD_NAMESPACE, OURS, Object, Resource, one_line

LEASE = "run"
# Seconds that a lease lasts without being renewed, and after which its holder gives it up.
DURATION_S = 40.0
GIVE_UP_S = 30.0


@dataclass(slots=True)
class Claim:
    """The claim of one contender, `identity`, which no other one has.

    `is_renewed` says whether the lease has changed while this one watched: its holder lives. All
    times are of one monotonic clock, that of the contender.
    """

    identity: str
    is_renewed: bool = False
    _seen: Resource | None = None
    _seen_s: float | None = None
    _held_until_s: float | None = None

    def see(self, found: Resource | None, now_s: float) -> None:
        """Take in what the cluster has; `now_s` is a time after it has answered."""
        if self._seen_s is None or _version(found) != _version(self._seen):
            # Only who has looked before knows that it has just changed.
            self.is_renewed = self._seen_s is not None
            self._seen_s = now_s
        self._seen = found

    @property
    def holder(self) -> str:
        """Who has it, in one line, and since when by that one's clock; empty if nobody."""
        spec = _spec(self._seen)
        name, since = one_line(spec.get("holderIdentity")), one_line(spec.get("acquireTime"))
        return f"{name}, since {since}" if name and since else name

    @property
    def is_mine(self) -> bool:
        """Whether this contender has it, by what was seen last."""
        return bool(_spec(self._seen).get("holderIdentity") == self.identity)

    @property
    def version(self) -> str:
        """The version that was seen last; empty if there was no lease."""
        return _version(self._seen)

    def expires_in_s(self, now_s: float) -> float:
        """Seconds until it has expired unless it is renewed; 0 if nobody has it."""
        if self._seen_s is None or not self.holder:
            return 0.0
        lasts_s = float(_spec(self._seen).get("leaseDurationSeconds") or DURATION_S)
        return max(0.0, self._seen_s + lasts_s - now_s)

    def wanted(self, now_s: float, date: str) -> Object | None:
        """The lease to write, in order to take or renew it; None if it is another one's.

        With a `resourceVersion` it replaces that version, without one there must not be any.
        `date` is for people: when it is renewed.
        """
        if not self.is_mine and self.expires_in_s(now_s) > 0:
            return None
        before = _spec(self._seen)
        changes = int(before.get("leaseTransitions") or 0) + (not self.is_mine and bool(before))
        metadata: Object = {"name": LEASE, "namespace": LOAD_NAMESPACE, "labels": OURS}
        if self.version:
            metadata["resourceVersion"] = self.version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": int(DURATION_S),
                "acquireTime": before["acquireTime"] if self.is_mine else date,
                "renewTime": date,
                "leaseTransitions": changes,
            },
        }

    def written(self, lease: Resource, sent_s: float, now_s: float) -> None:
        """Take in that `wanted` was accepted; `sent_s` is a time before it was sent."""
        self.see(lease, now_s)
        self._held_until_s = sent_s + GIVE_UP_S

    def is_held(self, now_s: float) -> bool:
        """Whether this contender may act as the holder now."""
        return self.is_mine and self._held_until_s is not None and now_s < self._held_until_s


def _version(lease: Resource | None) -> str:
    return "" if lease is None else str(lease["metadata"]["resourceVersion"])


def _spec(lease: Resource | None) -> Object:
    found: Object = {} if lease is None else lease.get("spec") or {}
    return found
