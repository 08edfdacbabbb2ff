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


_CHECK_NETWORK = (
    "check the network; behind a proxy set HTTPS_PROXY=http://host:port,"
    " for a mirror set PIP_INDEX_URL"
)
_ASK_SOURCES = "`pip download -vv --no-deps {0}` shows what each source answers"

# A pattern for a line of pip's output, the cause that it shows, and what helps. In the texts, {0}
# and {1} are the groups of the pattern that matched; " ({0})" is left out if none did.
Table = tuple[tuple[str, str, str], ...]

# The first pattern that matches a line is its cause, so the special stands before the general: a
# proxy that cannot be reached is also a refused connection.
_CAUSES: Table = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "make room, also in the folder of temporary files (TMPDIR)",
    ),
    (
        r"Tunnel connection failed: (407[^'\"]*)",
        "the proxy asks for a password ({0})",
        "set HTTPS_PROXY=http://user:password@host:port",
    ),
    (
        r"Tunnel connection failed: ([^'\"]+)",
        "the proxy refuses to pass on ({0})",
        "have the proxy allow the index, or set PIP_INDEX_URL to a mirror that it allows",
    ),
    (
        r"(?:Cannot|Unable to) connect to proxy"
        r"(?:.*(?:\[Errno -?\d+\] |TimeoutError\(')([^'\")]+))?",
        "the proxy cannot be reached ({0})",
        "correct HTTPS_PROXY, or `proxy` in `pip config list`",
    ),
    (
        r"(?:Failed to resolve.*)?(Name or service not known|Name does not resolve"
        r"|Temporary failure in name resolution|No address associated with hostname)"
        r"|Failed to resolve",
        "the name of {host} could not be resolved ({0})",
        _CHECK_NETWORK,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED(?:\] certificate verify failed: (.+?)\.? \(_ssl)?"
        r"|CertificateError\(.*?(hostname '[^']+' doesn't match)",
        "the certificate of {host} is not trusted ({0})",
        "where a company's proxy signs connections, set PIP_CERT to the file of its CA",
    ),
    (
        r"Could not find a suitable TLS CA certificate bundle, invalid path: (.+)",
        "there is no CA file {0}",
        "correct PIP_CERT or REQUESTS_CA_BUNDLE",
    ),
    (
        r"(?:SSLError.*)?\[SSL: (\w+)\]|SSLError|SSLEOFError",
        "{host} does not speak TLS as it should ({0})",
        "check the address and what a proxy does to it",
    ),
    (r"Connection refused", "{host} refuses the connection", _CHECK_NETWORK),
    (r"timed out|didn't respond within", "{host} does not answer in time", _CHECK_NETWORK),
    (
        r"(No route to host|Network is unreachable)",
        "{host} cannot be reached ({0})",
        _CHECK_NETWORK,
    ),
    (
        r"Connection reset by peer|Remote end closed connection|Connection (?:aborted|broken)"
        r"|not enough bytes were received",
        "the connection to {host} breaks off",
        _CHECK_NETWORK,
    ),
    (
        r"(?:HTTP error|too many) (\d{3})\b",
        "{host} answers with HTTP status {0}",
        "check the index's address and your right to read it (`pip config list`)",
    ),
    (
        r"is not a trusted or secure host and is being ignored",
        "pip ignores {host}, which is not https",
        "use https, or set PIP_TRUSTED_HOST",
    ),
    (
        r"Could not open (?:requirements|constraint) file: .*'([^']+)'",
        "pip's configuration names a file that cannot be opened, {0}",
        "correct PIP_CONSTRAINT, or `constraint` in `pip config list`",
    ),
    (
        r"The user requested \(constraint\) (.+)",
        "nothing found fits {0}, which a constraint file in pip's configuration asks for",
        "take that constraint out of its file, which PIP_CONSTRAINT or `pip config list` names,"
        " or run with PIP_CONSTRAINT=/dev/null",
    ),
    (
        r"^ERROR: .*\(from -c ([^()]+?)(?: \(line \d+\))?\)",
        "the constraint file {0} in pip's configuration conflicts",
        "correct that file, or run with PIP_CONSTRAINT=/dev/null",
    ),
    (
        r"Location '([^']+)' is ignored: it is either a non-existing path",
        "pip's find-links names {0}, which is not there",
        "correct PIP_FIND_LINKS, or `find-links` in `pip config list`",
    ),
)

_CONSEQUENCES: Table = (
    (
        r"satisfies the requirement (\S+) .*\(from versions: none\)",
        "no source that pip could read has {0} for this Python",
        _ASK_SOURCES,
    ),
    (
        r"satisfies the requirement (\S+) .*\(from versions: (?:.*, )?([^,)]+)\)",
        "no source that pip could read has {0} for this Python, the newest there is {1}",
        _ASK_SOURCES,
    ),
    (
        r"Cannot install (.+?) because these package versions have conflicting",
        "what is asked for conflicts ({0})",
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


def _found(table: Table, lines: Sequence[str], sources: Sequence[str]) -> list[Cause]:
    """The causes of `table` that `lines` show, in the table's order, each once."""
    found: list[Cause] = []
    for pattern, text, advice in table:
        matches = [match for line in lines if (match := re.search(pattern, line))]
        lines = [line for line in lines if not re.search(pattern, line)]
        hosts = [_host(match.string, sources) for match in matches]
        for match, host in zip(matches, hosts, strict=True):
            # Several lines may be about one failure, and only some of them name the host.
            if host or not any(hosts):
                groups = [group.strip() for group in match.groups() if group]
                words = text if groups else text.replace(" ({0})", "")
                where = host or "pip's index"
                said = (part.format(*groups, host=where) for part in (words, advice))
                found.append(Cause(*said))
    return list(dict.fromkeys(found))


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
