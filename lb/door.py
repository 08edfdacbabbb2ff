"""Who may come in, and what replicas get to see of who it is."""

from __future__ import annotations

from collections.abc import Sequence

from lb.apierror import invalid_api_key
from lb.http1 import Header
from lb.keys import API_KEY_HEADER, AUTHORIZATION, TENANT_HEADER, KeyFile

# How headers' names end in which clients send their key beside Authorization: X-Api-Key, which
# is read, and Azure's, Google's and others, which are not.
_KEY_NAMES = (b"api-key", b"api_key")


class Door:
    """Asks for a key where there are `keys`, and for none where there are not.

    Clients' keys go on to replicas only where the balancer has none to check them
    against and none of its own, `replica_key`, which replicas get instead: `shown`.
    """

    def __init__(self, keys: KeyFile | None = None, replica_key: str | None = None) -> None:
        self._keys = keys
        self._hidden: frozenset[bytes] = frozenset()
        self.shown: tuple[Header, ...] = ()
        if keys is not None:
            self._hidden = frozenset({AUTHORIZATION, TENANT_HEADER})
        if replica_key is not None:
            self._hidden |= {AUTHORIZATION}
            self.shown = ((AUTHORIZATION, b"Bearer " + replica_key.encode("ascii")),)

    def admit(self, headers: Sequence[Header]) -> bytes | None:
        """The name that belongs to the request's key; None where no keys are asked for.

        Authorization counts, and only where there is none X-Api-Key. Raises ApiError 401.
        """
        if self._keys is None:
            return None
        given = [value for name, value in headers if name == AUTHORIZATION]
        if not given:
            given = [b"Bearer " + value for name, value in headers if name == API_KEY_HEADER]
        if not given:
            raise invalid_api_key(
                "An API key is needed: send 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'"
            )
        scheme, _, key = given[0].partition(b" ")
        name = self._keys.name(key.strip())
        if len(given) > 1 or scheme.lower() != b"bearer" or name is None:
            raise invalid_api_key("The API key is not a known one")
        return name

    def outgoing(self, headers: list[Header]) -> list[Header]:
        """Those of a client's headers that replicas get to see."""
        if not self._hidden:
            return headers
        return [
            header
            for header in headers
            if header[0] not in self._hidden and not header[0].endswith(_KEY_NAMES)
        ]
