"""The folder with a balancer's sockets, also of one that was killed."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import tempfile
from pathlib import Path

import pytest

from lb.processes.folder import CONTROL, LINK, socket_folder
from tests.lb.running import alive, started

pytestmark = pytest.mark.anyio

REPLICA = ("--policy", "round-robin", "--endpoints", "http://127.0.0.1:9")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_over(temporary: Path) -> Path:
    """The folder of a balancer that was killed."""
    with socket_folder() as folder:
        name = folder.name
    folder = temporary / name
    folder.mkdir()
    for each in (CONTROL, LINK):
        (folder / each).touch()
    return folder


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_a_killed_balancer_leaves_is_removed_by_the_next(
    workers: int, tmp_path: Path
) -> None:
    options = (*REPLICA, "--workers", str(workers))
    async with started(*options, TMPDIR=str(tmp_path)) as running, asyncio.timeout(60):
        await running.health()
        processes = [running.pid, *running.children()]
        await running.end(signal.SIGKILL)
        while any(map(alive, processes)):
            await asyncio.sleep(0.02)
    (left,) = tmp_path.iterdir()
    async with started(*options, TMPDIR=str(tmp_path)) as running, asyncio.timeout(60):
        await running.health()
        assert left not in tmp_path.iterdir()
        await running.end()
    assert not any(tmp_path.iterdir())


def test_folders_of_balancers_that_run_stay(temporary: Path) -> None:
    with socket_folder() as one, socket_folder() as other:
        assert {*temporary.iterdir()} == {one, other}
    assert not any(temporary.iterdir())


def test_a_folder_with_something_else_in_it_stays(temporary: Path) -> None:
    folder = left_over(temporary)
    (folder / "notes").touch()
    with socket_folder():
        assert (folder / "notes").exists()


def test_a_link_to_another_folder_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    folder = left_over(temporary)
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    with socket_folder():
        assert (elsewhere / CONTROL).exists()


def test_the_folder_of_another_user_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left_over(temporary)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with socket_folder():
        assert (folder / CONTROL).exists()


def test_a_file_system_without_locks_for_folders_serves_as_well(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = left_over(temporary), tempfile.mkdtemp

    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, "as of NFS")

    def once(*, prefix: str) -> str:
        monkeypatch.setattr(tempfile, "mkdtemp", None)
        return made(prefix=prefix)

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(tempfile, "mkdtemp", once)
    with socket_folder() as one:
        assert one.is_dir()
    assert [*temporary.iterdir()] == [folder]


@pytest.mark.usefixtures("temporary")
def test_it_is_readable_by_its_user_only() -> None:
    with socket_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0
