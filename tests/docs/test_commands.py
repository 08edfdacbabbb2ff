"""Each command of the pages is run, or checked as far as it can be without what it needs.

Where neither is possible, its block begins with `# not run by tests: WHY`. What takes other files
than the repository has is tried by a test that makes them, and begins with `# tried by TEST`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.cli import commands as bench
from bench.cli.options import options_of, read_options
from bench.store import TrialStore
from lb.options import make_parser
from reports.__main__ import parser as parser_of_reports
from tests.bench.making import paired
from tests.docs.pages import ROOT, Command, blocks, commands, commands_in, inline_code
from validation.__main__ import parser as parser_of_validation

# Commands of `python -m bench` that need no engine are run here, and may have these exit codes.
RUN = {"compare": {0, 3}, "convert": {0}, "gates": {0}, "peers": {0}, "watch": {0, 3}}
# What is parsed here, and what runs it.
PARSED = {
    "pytest": "Makefile",
    "python -m bench dashboard": "tests/bench/test_dashboard_browser.py",
    "python -m bench deploy": "tests/docker/test_docker_real.py",
    "python -m bench health": "tests/docker/test_docker_real.py",
    "python -m bench logs": "tests/bench/test_operating.py",
    "python -m bench teardown": "tests/docker/test_docker_real.py",
    "python -m bench manifests": "tests/k8s/test_generated.py",
    "python -m bench wait": "tests/terraform/test_wait.py",
    "python -m lb": "tests/lb/test_command_line.py",
    "python -m reports": "tests/reports/test_report_generator.py",
    "make": ".ci/run",
    ".ci/gate.sh": "tests/ci/test_gate.py",
    "pip install": ".ci/run",
}
# What a shell does by itself, or every system has.
SHELL = {".", "base64", "cd", "cp", "echo", "export", "install", "mkdir"}
# Options of other programs that texts speak of, by program.
OTHERS = {
    "docker, gcloud, kubectl": {"--build-arg", "--command", "--from-literal"},
    "kvctl": {"--json"},
    "load generators": {
        "--fixed-schedule",
        "--metadata",
        "--save-detailed",
        "--use-server-token-count",
    },
    "pytest": {"--help", "--junitxml"},
    "setuptools": {"--inplace"},
    "python -m tests.lb.handovers": {"--count"},
    "vllm": {
        "--allowed-origins",
        "--gpu-memory-utilization",
        "--load-format",
        "--max-model-len",
        "--no-enable-prefix-caching",
        "--shutdown-timeout",
    },
}
OURS = (ROOT / "docs/reference/commands.md", ROOT / "docs/reference/options.md")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
A_RUN = ROOT / "tests/data/results/vllm-bench-0.30.0/detailed"
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{second:02}.0000000,{100 + second},20\n" for second in range(60)
)
COMMANDS = tuple(one for one in commands() if not one.block.tried_by)


def kind(words: Sequence[str]) -> str:
    """`pytest`, `make`, `python -m bench compare`: with a virtual environment or without."""
    first, *rest = words[0].removeprefix(".venv/bin/"), *words[1:]
    if first == "python" and rest[:1] == ["-m"]:
        first, rest = rest[1], rest[2:]
        if first == "bench":
            return f"python -m bench {rest[0]}"
        first = first if first == "pip" else f"python -m {first}"
    return "pip install" if first == "pip" and rest[:1] == ["install"] else first


def of(*kinds: str) -> list[Command]:
    """The commands of these kinds."""
    return [one for one in COMMANDS if kind(one.words).startswith(kinds)]


def arguments(command: Command) -> list[str]:
    """What comes after the program."""
    words = list(command.words)
    return words[3:] if words[1:2] == ["-m"] and words[0].endswith("python") else words[1:]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what commands name: files, folders, a stored run, a variable."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    shutil.copyfile(ROOT / "bench" / "slo.yaml", tmp_path / "my-slo.yaml")
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text(TRACE)
    shutil.copytree(A_RUN / "A", tmp_path / "A")
    shutil.copytree(A_RUN / "B", tmp_path / "B")
    for one in paired((1.0,) * 4, (0.3, 0.3, 0.31, 0.32)):
        TrialStore(tmp_path / "results").save(one)
    # Nobody listens there.
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_tried_or_says_that_it_is_not(command: Command) -> None:
    tried = {f"python -m bench {name}" for name in RUN} | PARSED.keys() | SHELL
    assert command.block.why_not_run or kind(command.words) in tried, (
        f"{command}: nothing here tries it; begin its block with `# not run by tests: WHY`"
    )


def test_tests_that_are_named_are_there() -> None:
    named = {*PARSED.values(), *filter(None, (one.tried_by for one in blocks()))}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_files_of_the_repository_that_it_names_are_there(command: Command) -> None:
    read = command.words[:-1] if command.words[0] == "cp" else command.words
    folders = tuple(f"{one.name}/" for one in ROOT.iterdir() if one.is_dir())
    named = [word for word in read if word.startswith(folders) and not set("$*") & set(word)]
    here = {"results/", "allure-report/", "allure-results/", ".venv/", ".cache/"}
    absent = [word for word in named if not (ROOT / word).exists()]
    assert [word for word in absent if not word.startswith(tuple(here))] == []


@pytest.mark.parametrize("command", of("python -m bench"), ids=str)
def test_the_bench_takes_it(
    command: Command, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = arguments(command)
    typed = vars(bench.parser().parse_args([name, *rest]))
    read_options(typed, name)
    # The parser takes a beginning of an option for the option, too.
    assert set(OPTION.findall(" ".join(rest))) <= {one.flag for one in options_of(name)}
    if name in RUN:
        stored = ["--results", str(folder / "results")] if "results" in typed else []
        code = bench.main([name, *rest, *stored])
        assert code in RUN[name], capsys.readouterr().err


@pytest.mark.parametrize("command", of("python -m lb"), ids=str)
def test_the_balancer_takes_it(command: Command) -> None:
    make_parser().parse_args(arguments(command))


@pytest.mark.parametrize("command", of("python -m reports"), ids=str)
def test_the_generator_of_reports_takes_it(command: Command) -> None:
    parser_of_reports().parse_args(arguments(command))


@pytest.mark.parametrize("command", of("make"), ids=str)
def test_make_has_the_target_and_its_program_takes_the_arguments(command: Command) -> None:
    target, *given = arguments(command)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), f"no target {target}"
    for words in begun_by(command) if given else ():
        if kind(words) == "python -m validation":
            parser_of_validation().parse_args(words[3:])


def begun_by(command: Command) -> list[tuple[str, ...]]:
    """The words of what a command of make begins that has arguments of its own."""
    dry = subprocess.run(
        ["make", "--dry-run", *arguments(command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [
        words
        for words in commands_in(dry.stdout)
        if kind(words) in {"pytest", "python -m validation"}
    ]
    assert found, dry.stdout
    return found


@pytest.mark.parametrize("command", of("pip install"), ids=str)
def test_an_extra_that_is_installed_is_there(command: Command) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"^\.\[(.*)\]$", command.words[-1]):
        assert extra in project["optional-dependencies"]


@pytest.mark.slow
def test_pytest_takes_the_options_and_selects_something(folder: Path) -> None:
    made = [one for one in of("make") if len(one.words) > 2]
    typed = [(str(one), arguments(one)) for one in of("pytest", ".ci/gate.sh")]
    typed += [
        (str(one), list(words[1:]))
        for one in made
        for words in begun_by(one)
        if kind(words) == "pytest"
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.collecting"],
        input=json.dumps([options for _, options in typed]),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = zip(typed, json.loads(done.stdout), strict=True)
    wrong = [f"{what}\n{said}" for (what, _), (code, said) in found if code != 0]
    assert not wrong, "\n".join(wrong)


def test_options_in_texts_are_ours_or_known_to_be_of_others() -> None:
    known = set().union(*OTHERS.values())
    known |= set(OPTION.findall("".join(page.read_text(encoding="utf-8") for page in OURS)))
    unknown = [
        f"{page.relative_to(ROOT)}: {option}"
        for page, text in inline_code()
        if page.name != "CHANGELOG.md"
        for option in OPTION.findall(text)
        if option not in known
    ]
    assert unknown == []
