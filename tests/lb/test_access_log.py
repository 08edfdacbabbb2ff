"""Lines that reach their file whole, and a file that must not hold up anybody."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import pytest

from lb.errors import UserError
from lb.observability.logs import AccessLog, check_target


def numbers(text: str) -> list[int]:
    return [json.loads(line)["n"] for line in text.splitlines()]


def test_lines_are_appended_in_order(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for half in (range(1000), range(1000, 2000)):
        log = AccessLog(str(path))
        for number in half:
            log.write({"n": number, "padding": "x" * 100})
        log.close()
    assert numbers(path.read_text()) == list(range(2000))


def test_a_batch_is_written_without_waiting_for_the_next_flush(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.write({"n": 1})
    log.flush()
    log.write({"n": 2, "padding": "x" * 100_000})
    while path.read_text().count("\n") < 2:
        time.sleep(0.01)
    log.close()


def test_several_writers_to_one_pipe_do_not_mix_their_lines(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    logs = [AccessLog(str(fifo)) for _ in range(3)]
    os.set_blocking(reading, True)
    for number in range(1000):
        for log in logs:
            log.write({"n": number, "padding": "x" * 200})
    for log in logs:
        log.flush()
    with os.fdopen(reading) as pipe:
        seen = [json.loads(pipe.readline())["n"] for _ in range(3000)]
        for log in logs:
            log.close()
    assert sorted(seen) == sorted(3 * list(range(1000)))


def test_a_full_disk_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full")
    for number in range(3):
        log.write({"n": number})
        log.flush()
    log.close()
    assert [record.message for record in caplog.records] == [
        "lines of the access log to /dev/full are lost, 1 so far: No space left on device"
    ]


def test_a_line_that_was_cut_off_does_not_spoil_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
    try:
        for number in range(3):
            log.write({"n": number, "padding": "x" * 80})
        log.flush()
        while not caplog.records:
            time.sleep(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write({"n": 3})
    log.close()
    first, cut_off, last = path.read_text().splitlines()
    assert numbers(first + "\n" + last) == [0, 3]
    assert cut_off.startswith('{"n":1,')
    assert [record.message for record in caplog.records] == [
        f"lines of the access log to {path} are lost, 2 so far: File too large"
    ]


def test_a_closed_pipe_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(fifo))
    os.close(reading)
    for number in range(3):
        log.write({"n": number})
        log.flush()
    log.close()
    assert [record.message for record in caplog.records] == [
        f"lines of the access log to {fifo} are lost, 1 so far: Broken pipe"
    ]


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_loses_what_is_too_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(fifo))
    for number in range(200):
        log.write({"n": number, "padding": "x" * 100_000})
    (warning,) = caplog.records
    assert warning.message == (
        f"lines of the access log to {fifo} are lost, 1 so far: "
        "it is written more slowly than requests end"
    )
    os.close(reading)
    log.close()


def test_a_pipe_without_a_reader_is_told_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(UserError, match=f"{fifo} cannot be written: it is a pipe that nobody"):
        check_target(str(fifo))


@pytest.mark.parametrize(
    ("target", "reason"),
    [("/", "Is a directory"), ("/nowhere/access.log", "No such file or directory")],
)
def test_a_file_that_cannot_be_written_is_named(target: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"--access-log {target} cannot be written: {reason}"):
        check_target(target)


def test_stdout_needs_no_check() -> None:
    check_target("-")
