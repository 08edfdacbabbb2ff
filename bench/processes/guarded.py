"""Commands that cannot outlive this process, and what their logs say."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from bench.errors import UserError
from bench.processes.guard import KEEP

GUARD = Path(__file__).with_name("guard.py")

# vLLM writes "(EngineCore pid=7) ERROR 01-31 23:59:59 [core.py:42] text".
_PREFIX = re.compile(r"^\(\w+ pid=\d+\) (?:[A-Z]+ \d\d-\d\d [\d:]{8} \[[^\]]+\] )?")
# "ValueError: text" of Python, "ERROR: text" and "× text" of pip.
_ERROR = re.compile(r"^(?:(?:ERROR|[\w.]*(?:Error|Exception)):|×) \S")
# Not an error: "INFO: text", with or without the process in front, and torch's
# "[W0131 23:59:59.123 utils.cpp:68] text".
_INFORMATION = re.compile(
    r"^(?:\(\w+ pid=\d+\) )?(?:(?:DEBUG|INFO|WARNING)\b|\[?[IW]\d{4} [\d:]{8}\.)"
)
# Errors that only say that another process had one.
_RESULT = re.compile(r"Engine core initialization failed|EngineDeadError")

# How the launcher of several engines in a container says which has ended.
_ENDED = re.compile(r"^\[launcher\] (\S+) (ended with exit code \d+)", re.MULTILINE)

_LOG_LINES = 400
LIMIT = 300


class Guarded:
    """A command that ends with this process, even when this process is killed with -9.

    That holds until `keep` is called. Its output goes to `log`. It gets SIGTERM, and after
    `grace_s` seconds SIGKILL, together with every process of its group.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        folder: Path | None = None,
        grace_s: float = 5.0,
    ) -> None:
        """Start `command` in `folder`; one that cannot be started exits with code 127."""
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        # -I -S: the guard needs the standard library only, and starts in 15 ms.
        guard = [sys.executable, "-I", "-S", str(GUARD), str(grace_s), *command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                guard,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # Ctrl-C reaches this process, which stops its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that guards the command, and is its parent."""
        return self._guard.pid

    def poll(self) -> int | None:
        """The exit code, 128 + n after signal n; None while it runs."""
        return self._guard.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Like `poll`, after waiting for at most `timeout_s` seconds."""
        try:
            return self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    @property
    def command_pid(self) -> int | None:
        """The process of the command, which leads a process group; None if it has ended."""
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return None
        return children[0].pid if children else None

    def keep(self) -> None:
        """Let it outlive this process. Call nothing else afterwards."""
        assert self._guard.stdin is not None
        self._guard.stdin.write(KEEP)
        self._guard.stdin.close()

    def terminate(self) -> None:
        """End it and all it started; returns when that is done. Safe to repeat."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


def run_bounded(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    limit_s: float = math.inf,
    folder: Path | None = None,
    each_second: Callable[[], None] = lambda: None,
) -> int:
    """Run `command`, a tool called `name`, to its end; its exit code.

    It runs in `folder`, by default that of its `log`. None of its processes is left, however this
    ends. Raises UserError if it has not ended after `limit_s` seconds.
    """
    process = Guarded(command, log=log, folder=folder or log.parent)
    end_s = time.monotonic() + limit_s
    try:
        while (rest_s := end_s - time.monotonic()) > 0:
            if (code := process.wait(min(1.0, rest_s))) is not None:
                return code
            each_second()
    finally:
        process.terminate()
    raise UserError(f"{name} had not ended after {limit_s:.0f} s and was ended; see {log}")


def last_lines(log: Path, count: int = 1) -> str:
    """The last `count` non-empty lines of a log; empty if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join([line for line in lines if line.strip()][-count:])


def error_in_log(log: Path) -> str:
    """The last error in a log that is not the result of another, in one line.

    Where there is no error: the last line that is neither debugging nor information.
    """
    return error_in(last_lines(log, _LOG_LINES))


def error_in(output: str) -> str:
    """Like `error_in_log`, of what a process has printed."""
    who, output = of_ended_engine(output)
    return who + (_last_error(output, or_last_line=True) or "its log shows no error")


def cause_of_death(log: Path) -> str:
    """Why a process that had been running is gone: the last error in its log, if any."""
    return cause_in(last_lines(log, _LOG_LINES))


def cause_in(output: str) -> str:
    """Like `cause_of_death`, of what a process has printed."""
    who, output = of_ended_engine(output)
    error = _last_error(output, or_last_line=False)
    return who + (error or "no error in its log, so it was killed from outside")


def of_ended_engine(output: str) -> tuple[str, str]:
    """Which of several engines has ended, by the launcher in their container, and its own lines.

    `NAME: ` and the lines without their name, how it ended if it has none. Of any other output
    nothing, and all of it.
    """
    if not (found := [*_ENDED.finditer(output)]):
        return "", output
    name, how = found[-1].groups()
    return f"{name}: ", "\n".join(lines_of_engine(output.splitlines(), name)) or how


def lines_of_engine(lines: Iterable[str], name: str) -> Iterator[str]:
    """The lines of one of several engines in a container, without its name."""
    start = f"[{name}] "
    return (line.removeprefix(start) for line in lines if line.startswith(start))


def _last_error(output: str, *, or_last_line: bool) -> str:
    """The last error, with its first detail where that is indented below it, shortened.

    An error that is the result of another counts only where there is no other. Empty if there is
    no error; with `or_last_line` the last line that is no information then.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    lines = [_PREFIX.sub("", line) for line in lines if not _INFORMATION.match(line)]
    errors: Sequence[int] = [index for index, line in enumerate(lines) if _ERROR.match(line)]
    errors = [index for index in errors if not _RESULT.search(lines[index])] or errors
    if not errors and or_last_line:
        errors = range(len(lines))
    if not errors:
        return ""
    first, *below = lines[errors[-1] :]
    detail = f": {below[0].strip()}" if below and below[0].startswith(" ") else ""
    text = first.strip() + detail
    return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"
