"""Why pip failed, from all that it printed: the cause, and what helps (pip_errors.yaml)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from bench.processes.guarded import error_in

_TABLES = Path(__file__).with_name("pip_errors.yaml")
# The host, where no line names one.
_OWN = "pip's index"
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


@dataclass(frozen=True, slots=True)
class Cause:
    """Why pip failed, and what helps; `advice` is empty where the text is pip's own."""

    text: str
    advice: str


def causes(said: str) -> list[Cause]:
    """Why pip failed, from all that it printed, the likeliest cause first; never empty."""
    one_line_errors = re.sub(r"\n╰─> ", ": ", said)  # pip 26 prints them in two lines
    lines = [line for line in one_line_errors.splitlines() if not _TRIED_AGAIN.search(line)]
    sources = [url for listed in _SOURCES.findall(said) for url in listed.split(", ")]
    tables = yaml.safe_load(_TABLES.read_text(encoding="utf-8"))
    return (
        _found(tables["causes"], lines, sources)
        or _found(tables["consequences"], lines, sources)
        or [Cause(error_in("\n".join(lines)).removeprefix("ERROR: "), "")]
    )


def text_of(found: Sequence[Cause]) -> str:
    """The causes in one line."""
    return ", and ".join(cause.text for cause in found)


def advice_of(found: Sequence[Cause]) -> list[str]:
    """What helps, each advice once."""
    return list(dict.fromkeys(cause.advice for cause in found if cause.advice))


def _found(
    table: Sequence[Mapping[str, str]], lines: Sequence[str], sources: Sequence[str]
) -> list[Cause]:
    """The causes of `table` that `lines` show, in the table's order, each once."""
    found: list[Cause] = []
    for known in table:
        matches = [match for line in lines if (match := re.search(known["line"], line))]
        lines = [line for line in lines if not re.search(known["line"], line)]
        hosts = [_host(match.string, sources) for match in matches]
        for match, host in zip(matches, hosts, strict=True):
            # Several lines may be about one failure, and only some of them name the host.
            if host or not any(hosts):
                groups = [group.strip() for group in match.groups() if group]
                text = known["cause"] if groups else known["cause"].replace(" ({0})", "")
                said = (part.format(*groups, host=host or _OWN) for part in (text, known["advice"]))
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
