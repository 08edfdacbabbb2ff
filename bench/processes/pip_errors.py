"""Why pip failed, from all that it printed: the cause, and what helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.processes.guarded import error_in


@dataclass(frozen=True, slots=True)
class Cause:
    """Why pip failed, and what helps; `advice` is empty where the text is pip's own."""

    text: str
    advice: str


def causes(said: str) -> list[Cause]:
    """Why pip failed, from all that it printed, the likeliest cause first; never empty.

    That nothing was found, or that versions conflict, is a cause only where no other is
    known: pip prints that as well when it could not reach an index.
    """
    one_line_errors = re.sub(r"\n╰─> ", ": ", said)  # pip 26 prints them in two lines
    lines = [line for line in one_line_errors.splitlines() if not _TRIED_AGAIN.search(line)]
    sources = [url for listed in _SOURCES.findall(said) for url in listed.split(", ")]
    return (
        _found(_CAUSES, lines, sources)
        or _found(_CONSEQUENCES, lines, sources)
        or [Cause(error_in("\n".join(lines)).removeprefix("ERROR: "), "")]
    )


def text_of(found: Sequence[Cause]) -> str:
    """The causes in one line."""
    return ", and ".join(cause.text for cause in found)


def advice_of(found: Sequence[Cause]) -> list[str]:
    """What helps, each advice once."""
    return list(dict.fromkeys(cause.advice for cause in found if cause.advice))


@dataclass(frozen=True, slots=True)
class _Known:
    """A cause that pip's output may have: a pattern for it there, and the texts of its `Cause`.

    The texts may have {host}, and the pattern's groups; " ({what})" is left out if there is
    no such group.
    """

    pattern: str
    text: str
    advice: str


_CHECK_NETWORK = (
    "check the network; behind a proxy set HTTPS_PROXY=http://host:port,"
    " for a mirror set PIP_INDEX_URL"
)

_CHECK_CERTIFICATE = "where a company's proxy signs connections, set PIP_CERT to the file of its CA"

# The first that matches a line is its cause, so the special stands before the general: a
# proxy that cannot be reached is also a refused connection.
_CAUSES = (
    _Known(
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "make room, also in the folder of temporary files (TMPDIR)",
    ),
    _Known(
        r"Tunnel connection failed: (?P<what>407[^'\"]*)",
        "the proxy asks for a password ({what})",
        "set HTTPS_PROXY=http://user:password@host:port",
    ),
    _Known(
        r"Tunnel connection failed: (?P<what>[^'\"]+)",
        "the proxy refuses to pass on ({what})",
        "have the proxy allow the index, or set PIP_INDEX_URL to a mirror that it allows",
    ),
    _Known(
        r"(?:Cannot|Unable to) connect to proxy"
        r"(?:.*(?:\[Errno -?\d+\] |TimeoutError\(')(?P<what>[^'\")]+))?",
        "the proxy cannot be reached ({what})",
        "correct HTTPS_PROXY, or `proxy` in `pip config list`",
    ),
    _Known(
        r"(?:Failed to resolve.*)?(?P<what>Name or service not known|Name does not resolve"
        r"|Temporary failure in name resolution|No address associated with hostname)"
        r"|Failed to resolve",
        "the name of {host} could not be resolved ({what})",
        _CHECK_NETWORK,
    ),
    _Known(
        r"CERTIFICATE_VERIFY_FAILED(?:\] certificate verify failed: (?P<what>.+?)\.? \(_ssl)?",
        "the certificate of {host} is not trusted ({what})",
        _CHECK_CERTIFICATE,
    ),
    _Known(
        r"CertificateError\(.*?(?P<what>hostname '[^']+' doesn't match)",
        "the certificate of {host} is not trusted ({what})",
        _CHECK_CERTIFICATE,
    ),
    _Known(
        r"Could not find a suitable TLS CA certificate bundle, invalid path: (?P<path>.+)",
        "there is no CA file {path}",
        "correct PIP_CERT or REQUESTS_CA_BUNDLE",
    ),
    _Known(
        r"(?:SSLError.*)?\[SSL: (?P<what>\w+)\]|SSLError|SSLEOFError",
        "{host} does not speak TLS as it should ({what})",
        "check the address and what a proxy does to it",
    ),
    _Known(r"Connection refused", "{host} refuses the connection", _CHECK_NETWORK),
    _Known(
        r"timed out|didn't respond within",
        "{host} does not answer in time",
        _CHECK_NETWORK,
    ),
    _Known(
        r"(?P<what>No route to host|Network is unreachable)",
        "{host} cannot be reached ({what})",
        _CHECK_NETWORK,
    ),
    _Known(
        r"Connection reset by peer|Remote end closed connection|Connection (?:aborted|broken)"
        r"|not enough bytes were received",
        "the connection to {host} breaks off",
        _CHECK_NETWORK,
    ),
    _Known(
        r"(?:HTTP error|too many) (?P<status>\d{3})\b",
        "{host} answers with HTTP status {status}",
        "check the index's address and your right to read it (`pip config list`)",
    ),
    _Known(
        r"is not a trusted or secure host and is being ignored",
        "pip ignores {host}, which is not https",
        "use https, or set PIP_TRUSTED_HOST",
    ),
    _Known(
        r"Could not open (?:requirements|constraint) file: .*'(?P<path>[^']+)'",
        "pip's configuration names a file that cannot be opened, {path}",
        "correct PIP_CONSTRAINT, or `constraint` in `pip config list`",
    ),
    _Known(
        r"The user requested \(constraint\) (?P<pin>.+)",
        "nothing found fits {pin}, which a constraint file in pip's configuration asks for",
        "take that constraint out of its file, which PIP_CONSTRAINT or `pip config list` names,"
        " or run with PIP_CONSTRAINT=/dev/null",
    ),
    _Known(
        r"^ERROR: .*\(from -c (?P<path>[^()]+?)(?: \(line \d+\))?\)",
        "the constraint file {path} in pip's configuration conflicts",
        "correct that file, or run with PIP_CONSTRAINT=/dev/null",
    ),
    _Known(
        r"Location '(?P<path>[^']+)' is ignored: it is either a non-existing path",
        "pip's find-links names {path}, which is not there",
        "correct PIP_FIND_LINKS, or `find-links` in `pip config list`",
    ),
)

_CONSEQUENCES = (
    _Known(
        r"satisfies the requirement (?P<pin>\S+) .*\(from versions: none\)",
        "no source that pip could read has {pin} for this Python",
        "`pip download -vv --no-deps {pin}` tells what each source answers",
    ),
    _Known(
        r"satisfies the requirement (?P<pin>\S+) .*\(from versions: (?:.*, )?(?P<newest>[^,)]+)\)",
        "no source that pip could read has {pin} for this Python, the newest there is {newest}",
        "`pip download -vv --no-deps {pin}` tells what each source answers",
    ),
    _Known(
        r"Cannot install (?P<pins>.+?) because these package versions have conflicting",
        "what is asked for conflicts ({pins})",
        "look for `constraint` in `pip config list` and for PIP_CONSTRAINT",
    ),
)

# "Looking in indexes: URL, URL", or "links" in place of indexes. pip hides passwords in them.
_SOURCES = re.compile(r"^Looking in (?:indexes|links): (.+)$", re.MULTILINE)
_HOST = re.compile(
    r"host='([^']+)'|Failed to resolve '([^']+)'|Connection to (\S+) timed out"
    r"|repository located at (\S+) is|https?://(?:[^/@\s]*@)?([\w.-]+)"
)
# The end of a line about a request that failed: "...': /simple/torch/".
_PATH = re.compile(r"': (/\S*)$")
# A failure after which pip tried again: no cause.
_TRIED_AGAIN = re.compile(r"Retrying \(Retry\(total=[1-9]")


def _found(table: Sequence[_Known], lines: Sequence[str], sources: Sequence[str]) -> list[Cause]:
    """The causes of `table` that `lines` match, in the table's order, each once."""
    matches = [match for line in lines if (match := _first_match(table, line))]
    found: list[Cause] = []
    for known in table:
        hosts = [(match, _host(match.string, sources)) for by, match in matches if by is known]
        # Several lines are about one failure, and only some of them name the host.
        named = [one for one in hosts if one[1]] or hosts
        found += [_in_words(known, match, host or "pip's index") for match, host in named]
    return list(dict.fromkeys(found))


def _first_match(table: Sequence[_Known], line: str) -> tuple[_Known, re.Match[str]] | None:
    matches = ((known, re.search(known.pattern, line)) for known in table)
    return next(((known, match) for known, match in matches if match), None)


def _in_words(known: _Known, match: re.Match[str], host: str) -> Cause:
    groups = {name: (text or "").strip() for name, text in match.groupdict().items()}
    text = known.text if groups.get("what") else known.text.replace(" ({what})", "")
    return Cause(text.format(host=host, **groups), known.advice.format(host=host, **groups))


def _host(line: str, sources: Sequence[str]) -> str:
    """The host that a line is about; empty if it names none.

    Old versions of pip print the path only; then it is the host of the sources with that path.
    """
    if match := _HOST.search(line):
        host: str = next(filter(None, match.groups()))
        return host
    if match := _PATH.search(line):
        urls = [url for url in map(urlsplit, sources) if match[1].startswith(url.path)]
        return " or ".join(dict.fromkeys(url.hostname for url in urls if url.hostname))
    return ""
