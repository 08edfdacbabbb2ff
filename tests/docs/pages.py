"""The pages that people read, their blocks of code, and the commands in these."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
# The first line of a block whose commands nothing here tries: why, or what does.
NOT_RUN = re.compile(r"# not run by tests: (\S.*)")
TRIED_BY = re.compile(r"# tried by (\S+)\n")
# The first words of a block without a language that make it one of a shell.
_PROGRAMS = {"cd", "docker", "docker-compose", "git", "kubectl", "make", "pip", "pytest", "python"}
# Between two commands of a line.
_SEPARATORS = {"&&", "||", ";", "|", "&", "(", ")"}
_REDIRECTIONS = {"<", ">", ">>", ">&", "<<"}
# What stands before a command without changing which one it is.
_PREFIXES = {"sudo", "do", "then", "else", "nice"}
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its page, the line on which it begins, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """`docs/tutorial.md:8`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def of_a_shell(self) -> bool:
        """Whether it has commands: its language says so, or its first word does."""
        first = self.text.lstrip("# ").partition(" ")[0]
        return self.language in {"sh", "bash", "console"} or (
            not self.language and Path(first).name in _PROGRAMS
        )

    @property
    def why_not_run(self) -> str:
        """What its mark says; empty without one."""
        found = NOT_RUN.match(self.text)
        return found[1] if found else ""

    @property
    def tried_by(self) -> str:
        """The test that its mark names; empty without one."""
        found = TRIED_BY.match(self.text)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block, with the words that a shell would give it."""

    block: Block
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block.place}: {shlex.join(self.words)}"


def blocks() -> Iterator[Block]:
    """Every fenced block of every page."""
    for page in PAGES:
        for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
            if token.type == "fence" and token.map is not None:
                language = token.info.partition(" ")[0]
                yield Block(page, token.map[0] + 1, language, token.content)


def inline_code() -> Iterator[tuple[Path, str]]:
    """Every piece of code within a text."""
    for page in PAGES:
        parser = MarkdownIt("commonmark").enable("table")
        for token in parser.parse(page.read_text(encoding="utf-8")):
            for child in token.children or ():
                if child.type == "code_inline":
                    yield page, child.content


def commands() -> Iterator[Command]:
    """Every command in the blocks of a shell."""
    for block in blocks():
        if block.of_a_shell:
            yield from (Command(block, words) for words in commands_in(block.text))


def commands_in(text: str) -> Iterator[tuple[str, ...]]:
    """The words of each command of a shell's text; variables that it sets are filled in.

    Redirections, here documents and the words `for`, `do` and `done` are left out.
    """
    values: dict[str, str] = {}
    for line in _lines(text):
        for words in _split(line):
            assigned = [*itertools.takewhile(bool, map(_ASSIGNMENT.fullmatch, words))]
            values |= {one[1]: one[2] for one in assigned if one}
            filled = tuple(_filled(word, values) for word in words[len(assigned) :])
            if filled and filled[0] not in {"for", "done"}:
                yield filled


def _lines(text: str) -> Iterator[str]:
    """Logical lines: continued ones are joined, and here documents left out."""
    end = ""
    for line in text.replace("\\\n", " ").splitlines():
        if end:
            end = "" if line.strip() == end else end
            continue
        if document := re.search(r"<<(\w+)", line):
            end = document[1]
        yield line


def _split(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skipped = False
    for token in (*lexer, ";"):
        if token in _SEPARATORS:
            yield words
            words = []
        elif token in _REDIRECTIONS:
            skipped = True
        elif skipped:
            skipped = False
        elif words or token not in _PREFIXES:
            words.append(token)


def _filled(word: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda found: values.get(found[1], found[0]), word)
