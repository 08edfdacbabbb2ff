"""API keys: which client sends a request, and which key replicas get.

Clients' keys are in a file, and in memory as hashes. A key is looked up by its SHA-256, so that
the time that it takes says nothing of the keys.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from lb.errors import UserError
from lb.http.api_errors import invalid_api_key
from lb.http.http1 import Header

logger = logging.getLogger("lb")

TENANT_HEADER = b"x-tenant"
# Tenants are remembered when their requests have ended.
_MOST_TENANT_BYTES = 256
# Clients send their key in one of these: those of Anthropic's API in the second.
AUTHORIZATION = b"authorization"
API_KEY_HEADER = b"x-api-key"
# Clients of Azure, Google and others send it in headers whose names end so. They are not passed
# on where keys are checked; only X-Api-Key is read.
_KEY_NAMES = (b"api-key", b"api_key")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[!-~]+")
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")


class KeyFile:
    """The keys in a file, which is read again when it changes.

    Raises UserError if it cannot be used at first. Later the keys stay as they were until it
    can be used again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _stamp(path)
        self._names = parse_keys(_text(path), str(path))

    def name(self, key: bytes) -> bytes | None:
        """The name of a key; None if it is unknown."""
        return self._names.get(sha256(key).digest())

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        seen = _stamp(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._names = parse_keys(_text(self._path), str(self._path))
        except UserError as error:
            logger.warning("the API keys stay as they were: %s", error)
        else:
            logger.info("read %d API keys from %s", len(self._names), self._path)


class Authenticator:
    """Checks the API keys of requests against `keys`; without `keys` all requests are allowed.

    Replicas get the client's key only where the balancer has neither `keys` nor a
    `replica_key`. With a `replica_key` they get that instead, in `replica_headers`.
    """

    def __init__(self, keys: KeyFile | None = None, replica_key: str | None = None) -> None:
        self._keys = keys
        self._hidden: frozenset[bytes] = frozenset()
        self.replica_headers: tuple[Header, ...] = ()
        if keys is not None:
            self._hidden = frozenset({AUTHORIZATION, TENANT_HEADER})
        if replica_key is not None:
            self._hidden |= {AUTHORIZATION}
            self.replica_headers = ((AUTHORIZATION, b"Bearer " + replica_key.encode("ascii")),)

    def authenticate(self, headers: Sequence[Header]) -> bytes | None:
        """The name of the request's key; None where no keys are checked.

        The key is in Authorization or, if that is missing, in X-Api-Key. Raises ApiError 401.
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

    def passed_on(self, headers: list[Header]) -> list[Header]:
        """The headers of a request that replicas get."""
        if not self._hidden:
            return headers
        return [
            header
            for header in headers
            if header[0] not in self._hidden and not header[0].endswith(_KEY_NAMES)
        ]


def tenant_of(headers: Iterable[Header]) -> bytes:
    """The tenant of a request: its header, else a hash of the API key (for logs), else b""."""
    key = b""
    for name, value in headers:
        if name == TENANT_HEADER:
            return value[:_MOST_TENANT_BYTES]
        if name == AUTHORIZATION or (name == API_KEY_HEADER and not key):
            key = value
    return b"key-" + sha256(key).hexdigest()[:12].encode("ascii") if key else b""


def parse_keys(text: str, source: str) -> Mapping[bytes, bytes]:
    """Names by the SHA-256 of the key; `text` has a line `name key` for each.

    In place of the key there may be `sha256:HEX`. Raises UserError, without the key.
    """
    names: dict[bytes, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{source} line {number}"
        if len(words) != 2:
            raise UserError(f"{where} does not read 'NAME KEY'")
        name, key = words
        if not _NAME.fullmatch(name):
            raise UserError(f"{where}: a name is up to 64 letters, digits, dots, '-' or '_'")
        digest = _digest(key, where)
        if digest in names:
            raise UserError(f"{where}: the key of {name} is given twice")
        names[digest] = name.encode("ascii")
    if not names:
        raise UserError(f"{source} has no keys, give one on each line: NAME KEY")
    return names


def read_key(path: Path) -> str:
    """The key in a file, its only word. Raises UserError, without the key."""
    words = _text(path).split()
    if len(words) != 1 or not _KEY.fullmatch(words[0]):
        raise UserError(f"{path} does not hold one key of printable ASCII and nothing else")
    return words[0]


def _digest(key: str, where: str) -> bytes:
    if key.startswith("sha256:"):
        match = _HASH.fullmatch(key)
        if match is None:
            raise UserError(f"{where}: after sha256: there must be 64 hexadecimal digits")
        return bytes.fromhex(match[1])
    if not _KEY.fullmatch(key):
        raise UserError(f"{where}: a key is printable ASCII without spaces")
    return sha256(key.encode("ascii")).digest()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Time and size of a file, which differ between versions; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
