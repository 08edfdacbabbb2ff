"""Installs vLLM and KVCached in an environment of their own: from pip's index, or a folder."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.errors import UserError
from bench.processes.venv import Installation, Venv, ensure_venv, pip_failure
from bench.progress import Progress
from bench.store.files import write_whole

KVCACHED_VERSION = "0.1.6"
# vLLM, torch and CUDA's libraries take about 12 GB, and the rest while unpacking.
NEEDED_BYTES = 25 * 10**9
MINUTES = "3 to 10 minutes"
_INSTALL = ("-m", "pip", "install", "--no-input", "--progress-bar=off")
# KVCached is compiled against the torch that is there.
_BUILT_HERE = ("--no-build-isolation", "--no-deps")
_PART = re.compile(r"(.+\.(?:whl|tar\.gz))\.part-(\d+)")
_VLLM = re.compile(r"0\.(\d+)\.\d+")


def check_version(vllm: str) -> str:
    """That version of vLLM. Raises UserError for one that KVCached does not take."""
    found = _VLLM.fullmatch(vllm)
    if found is None or not 17 <= int(found[1]) <= 30:
        raise UserError(
            f"KVCached {KVCACHED_VERSION} takes vLLM 0.17 to 0.30, seen {vllm!r}: give another "
            "one with --vllm"
        )
    return vllm


def ensure_engines(vllm: str, wheels: Path | None, cache: Path, progress: Progress) -> Venv:
    """The environment with that version of vLLM and KVCached, installed if it is missing.

    With `wheels` it is installed from that folder alone, whose packages may be in parts. Raises
    UserError with one line if that fails.
    """
    requirements = cache / f"gpu-check-requirements-{vllm}.txt"
    pins = f"vllm=={vllm}\nkvcached=={KVCACHED_VERSION}\n"
    write_whole(requirements, pins.encode())
    folder = None if wheels is None else join_parts(wheels, cache / "gpu-check-wheels")
    return ensure_venv(
        "gpu-check",
        requirements,
        cache,
        progress,
        name=f"vLLM {vllm} and KVCached {KVCACHED_VERSION} ({MINUTES})",
        needed_bytes=NEEDED_BYTES,
        install=partial(_install, folders=() if folder is None else (folder, wheels)),
    )


def install_commands(pins: Sequence[str], folders: Iterable[Path | None]) -> list[list[str]]:
    """The arguments of Python that install `pins` in turn, KVCached last.

    Without `folders` packages come from pip's index, else from these alone.
    """
    sources = [word for one in folders if one for word in ("--find-links", str(one))]
    offline = ["--no-index", *sources] if sources else []
    *first, kvcached = pins
    tools = ("setuptools", "wheel")
    return [
        [*_INSTALL, *offline, *first, *tools, "numpy", "posix_ipc", "wrapt"],
        [*_INSTALL, *offline, *_BUILT_HERE, kvcached],
    ]


def parts_of(names: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """By package: the names of its parts in order. Raises UserError where one is missing."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _PART.fullmatch(name):
            found.setdefault(match[1], {})[int(match[2])] = name
    for package, parts in found.items():
        if missing := sorted(set(range(max(parts) + 1)) - parts.keys()):
            raise UserError(
                f"{package} lacks part {missing[0]:02} of {max(parts) + 1}: copy it again"
            )
    return {package: tuple(parts[one] for one in sorted(parts)) for package, parts in found.items()}


def join_parts(wheels: Path, into: Path) -> Path:
    """Join the packages of a folder that are in parts, into another one, which is returned.

    Raises UserError if the folder has no packages, a part is missing, or a package is damaged.
    """
    if not wheels.is_dir():
        raise UserError(f"--wheels: {wheels} is no folder; give one with wheels, or parts of them")
    names = sorted(one.name for one in wheels.iterdir())
    packages = parts_of(names)
    if not packages and not any(name.endswith((".whl", ".tar.gz")) for name in names):
        raise UserError(f"--wheels: {wheels} has no wheels: put there what pip downloads")
    into.mkdir(parents=True, exist_ok=True)
    for package, parts in packages.items():
        path = into / package
        with path.open("wb") as joined:
            for part in parts:
                joined.write((wheels / part).read_bytes())
        if package.endswith(".whl") and not _is_whole(path):
            path.unlink()
            raise UserError(f"--wheels: {package} is damaged: copy its {len(parts)} parts again")
    return into


def _is_whole(wheel: Path) -> bool:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):  # an offset before the beginning
        return False


def _install(installation: Installation, folders: Sequence[Path | None]) -> None:
    pins = installation.venv.requirements.read_text(encoding="utf-8").split()
    for arguments in install_commands(pins, folders):
        installation.step.update(f"installing {' '.join(arguments[-2:])}")
        said = installation.run(arguments)
        if said is not None:
            raise UserError(pip_failure(installation.name, said, installation.log))
