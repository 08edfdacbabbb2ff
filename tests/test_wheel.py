"""The wheel, installed as a user does it, and used in an empty folder without a checkout."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from bench.paths import suite_version
from tests.bench.results_of_tools import DETAILED, sides
from tests.copying import ROOT, copy_repository
from tests.lb.running import started_as
from tests.lb.scripted import ScriptedReplica

pytestmark = pytest.mark.slow

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
TIMEOUT_S = 900.0
ENDPOINTS = ("--url", "control=http://127.0.0.1:9/v1", "--url", "treatment=http://127.0.0.1:9/v1")


def ran(*command: str | Path, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def must(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and an empty folder to use it in."""

    venv: Path
    empty: Path

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return ran(self.venv / "bin" / program, *arguments, folder=self.empty, home=self.venv)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_repository(folder / "source")
    must(*PIP, "wheel", "-q", "--no-deps", "-w", folder, source)
    (made,) = folder.glob("*.whl")
    return made


def installed(folder: Path, *arguments: str | Path) -> Path:
    venv = folder / "venv"
    must(sys.executable, "-m", "venv", "--without-pip", venv)
    must(*PIP, "--python", venv / "bin" / "python", "install", "-q", *arguments)
    return venv


@pytest.fixture(scope="module")
def all_of_it(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    return installed(folder, "--constraint", ROOT / "requirements.txt", wheel)


@pytest.fixture
def suite(all_of_it: Path, tmp_path: Path) -> Installed:
    return Installed(all_of_it, tmp_path)


@pytest.fixture
def balancer(wheel: Path, tmp_path: Path) -> Installed:
    """With the balancer's packages alone."""
    listed = ROOT / "lb" / "requirements.txt"
    venv = installed(tmp_path, "--no-deps", "-r", listed, wheel)
    (tmp_path / "empty").mkdir()
    return Installed(venv, tmp_path / "empty")


def test_the_wheel_has_every_file_of_its_packages(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "bench", "lb", "reports", "tests/scenarios"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {path.replace("tests/", "bench/") for path in listed.stdout.split()}
    with ZipFile(wheel) as file:
        assert {name for name in file.namelist() if ".dist-info/" not in name} >= wanted


def test_the_balancer_alone_serves(balancer: Installed) -> None:
    assert balancer.run("lb", "--version").stdout == f"lb {suite_version()}\n"
    assert "policies:" in balancer.run("lb", "--help").stdout
    assert not [*balancer.venv.glob("lib/*/site-packages/numpy")]

    async def answer() -> httpx.Response:
        async with (
            ScriptedReplica() as replica,
            started_as(
                [str(balancer.venv / "bin" / "lb")],
                balancer.empty,
                *("--policy", "queue-aware", "--endpoints", replica.url),
            ) as running,
            httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20) as client,
        ):
            while (await client.get("/ready")).is_error:
                await asyncio.sleep(0.05)
            body = {"model": "m", "messages": []}
            return await client.post("/v1/chat/completions", json=body)

    answered = asyncio.run(answer())
    assert answered.json() == {"model": "m", "messages": []}


def test_results_of_other_tools_are_compared(suite: Installed) -> None:
    assert suite.run("llm-ab-bench", "--version").stdout == f"bench {suite_version()}\n"
    a, b = sides(DETAILED, suite.empty / "runs")
    done = suite.run("llm-ab-bench", "compare", a, b)
    assert "outcome: " in done.stdout, done.stderr
    page = re.findall(r"^report: (.*)$", done.stdout, re.MULTILINE)[0]
    assert Path(page).parent == suite.empty / "results" / "compared"
    assert "<svg" in Path(page).read_text(encoding="utf-8")


def test_scenarios_are_those_of_the_checkout(suite: Installed) -> None:
    gates = (sys.executable, "-m", "bench", "gates", "--format", "json")
    own = ran(*gates, folder=ROOT, home=suite.venv)
    theirs = suite.run("llm-ab-bench", "gates", "--format", "json")
    assert own.returncode == theirs.returncode == 0, theirs.stderr
    assert theirs.stdout.replace("bench.scenarios", "tests.scenarios") == own.stdout


def test_a_measurement_needs_no_checkout(suite: Installed) -> None:
    asked = ("--env", "external", "--model", "m", *ENDPOINTS)
    done = suite.run("llm-ab-test", "-m", "managed", "-k", "latency", *asked)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "load generator at" in done.stderr  # processes of the suite ran
    assert "does not answer" in done.stdout
    assert "Traceback" not in done.stdout
    made = {path.name for path in suite.empty.iterdir()}
    assert made <= {".cache", ".pytest_cache", "allure-results", "results"}


def test_what_needs_a_checkout_is_refused(suite: Installed) -> None:
    for command in (("llm-ab-bench", "status"), ("llm-ab-test", "-m", "managed")):
        done = suite.run(*command, "--env", "k8s")
        assert done.returncode in {2, 4}
        assert "--env k8s needs a checkout of the suite" in done.stderr
        assert "Traceback" not in done.stderr


def test_files_of_a_project_are_not_taken_for_the_suite(suite: Installed) -> None:
    (suite.empty / "bench.py").write_text("raise SystemExit('not this one')\n")
    (suite.empty / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    done = suite.run("llm-ab-test", "--collect-only", "-q", "-m", "managed", "-k", "latency")
    assert "bench/scenarios/test_latency.py::" in done.stdout, done.stderr
