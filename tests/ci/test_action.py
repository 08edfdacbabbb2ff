"""The GitHub Action: its steps, run as a script in a clean checkout. And the examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci.checkouts import BETTER, ROOT, WORSE, Checkout

ACTION = yaml.safe_load((ROOT / ".ci/action/action.yml").read_text("utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
EXAMPLES = {path.name: path for path in (ROOT / ".ci/examples").rglob("*") if path.is_file()}
EXPRESSION = re.compile(r"\$\{\{ *(.+?) *\}\}")
# GitHub's own, in place of gh: the comments are in a file, and `--jq` is answered as gh does.
GH = r"""#!{python}
import json, os, pathlib, re, sys
if os.environ.get("FORBIDDEN"):
    sys.exit("gh: Resource not accessible by integration (HTTP 403)")
file = pathlib.Path(os.environ["COMMENTS"])
comments = json.loads(file.read_text()) if file.exists() else []
said = sys.argv[1:]
path = next(one for one in said if one.startswith("repos/"))
if "--jq" in said:
    assert path == "repos/me/mine/issues/7/comments", path
    wanted = said[said.index("--jq") + 1]
    marker = re.search(r'startswith\("(.+?)"\)', wanted)[1]
    whose = {"Bot"} if '.user.type == "Bot"' in wanted else {"Bot", "User"}
    for one in comments:
        if one["type"] in whose and one["body"].startswith(marker):
            print(one["id"])
else:
    body = pathlib.Path(said[said.index("--field") + 1].removeprefix("body=@")).read_text()
    if "PATCH" in said:
        (old,) = (one for one in comments if path == f"repos/me/mine/issues/comments/{one['id']}")
        old["body"] = body
    else:
        assert path == "repos/me/mine/issues/7/comments", path
        comments.append({"id": 100 + len(comments), "type": "Bot", "body": body})
    file.write_text(json.dumps(comments))
"""


class Runner:
    """A runner of GitHub's, as far as steps with a script go."""

    def __init__(self, folder: Path) -> None:
        self.checkout = Checkout(folder)
        self.files = folder / "runner"
        self.files.mkdir()
        gh = GH.replace("{python}", sys.executable)
        self.checkout.program(self.checkout.programs / "gh", gh)
        self.checkout.program(self.checkout.programs / "sudo", "#!/bin/sh\nexit 0\n")

    def action(
        self, arguments: str, *, measured: str, **variables: str
    ) -> tuple[list[int], dict[str, str]]:
        """The exit codes of all steps with a script, and all that they gave out."""
        given: dict[str, str] = {
            "inputs.arguments": arguments,
            "inputs.name": "ab-gate",
            "github.token": "secret",
            "github.event.pull_request.number": "7",
            "steps.python.outputs.python-version": "3.11.9",
        }
        codes = []
        for step in filter(lambda one: "run" in one, STEPS):
            done = self._step(step, given, measured, variables)
            codes.append(done.returncode)
            for line in (self.files / "output").read_text("utf-8").splitlines():
                name, _, value = line.partition("=")
                given[f"steps.{step['id']}.outputs.{name}"] = value
        return codes, given

    def _step(
        self,
        step: Mapping[str, Any],
        given: Mapping[str, str],
        measured: str,
        variables: Mapping[str, str],
    ) -> subprocess.CompletedProcess[str]:
        (self.files / "output").write_text("", encoding="utf-8")
        (self.files / "step.sh").write_text(step["run"], encoding="utf-8")
        own = {
            name: EXPRESSION.sub(lambda found: given[found[1]], value)
            for name, value in step.get("env", {}).items()
        }
        github = {
            "GITHUB_ACTION_PATH": str(self.checkout.root / "./.ci/action"),
            "GITHUB_OUTPUT": str(self.files / "output"),
            "GITHUB_STEP_SUMMARY": str(self.files / "summary.md"),
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "me/mine",
            "GITHUB_RUN_ID": "42",
            "RUNNER_OS": "Linux",
            "RUNNER_ARCH": "X64",
            "RUNNER_TEMP": str(self.files),
            "COMMENTS": str(self.files / "comments.json"),
        }
        # What `shell: bash` means.
        command = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
        script = str(self.files / "step.sh")
        done = self.checkout.run(*command, script, measured=measured, **github, **own, **variables)
        print(done.stdout, done.stderr)
        return done

    @property
    def comments(self) -> list[dict[str, Any]]:
        """The comments of the pull request."""
        found: list[dict[str, Any]] = json.loads((self.files / "comments.json").read_text("utf-8"))
        return found


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.mark.slow
def test_its_steps_measure_and_comment_and_a_later_run_updates_the_comment(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    default = ACTION["inputs"]["arguments"]["default"]
    foreign = "<!-- ab-gate of llm-serving-ab-bench -->\nnot mine"
    before = [{"id": 5, "type": "User", "body": foreign}]
    (runner.files / "comments.json").write_text(json.dumps(before), encoding="utf-8")

    codes, given = runner.action(default, measured=BETTER)
    assert codes == [0, 0, 0]
    assert given["steps.gate.outputs.outcome"] == "held"
    assert given["steps.place.outputs.root"] == str(runner.checkout.root)
    assert given["steps.place.outputs.key"].startswith("ab-engine-Linux-X64-")
    summary = (runner.files / "summary.md").read_text("utf-8")
    assert summary.startswith("### managed against baseline: held\n")
    other, mine = runner.comments
    assert other["body"] == foreign
    assert "\n### managed against baseline: held\n" in mine["body"]
    assert "[this run](https://github.example/me/mine/actions/runs/42)" in mine["body"]

    codes, given = runner.action(default, measured=WORSE)
    assert codes == [0, 1, 0]
    assert given["steps.gate.outputs.outcome"] == "failed"
    updated = runner.comments[1]
    assert updated["id"] == mine["id"]
    assert "\n### managed against baseline: failed\n" in updated["body"]
    assert "::warning::" not in capsys.readouterr().out


@pytest.mark.slow
def test_arguments_are_words_as_in_a_shell_and_nothing_more(runner: Runner) -> None:
    arguments = "-k 'heavy_tail and tiny-llama' --models \"tiny-llama\" --seed $(touch made)"
    codes, given = runner.action(arguments, measured=BETTER)
    assert codes == [0, 2, 0]
    assert given["steps.gate.outputs.outcome"] == ""
    assert not list(runner.checkout.root.parent.rglob("made"))
    assert "### No verdict:" in runner.comments[0]["body"]


@pytest.mark.slow
def test_a_comment_that_may_not_be_written_fails_nothing(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    default = ACTION["inputs"]["arguments"]["default"]
    assert runner.action(default, measured=BETTER, FORBIDDEN="1")[0] == [0, 0, 0]
    assert "::warning::the verdict could not be written" in capsys.readouterr().out


def test_no_script_has_an_expression_in_it() -> None:
    # What somebody else wrote, such as a title, would run as a part of the script.
    assert not [step for step in STEPS if EXPRESSION.search(step.get("run", ""))]


def test_a_step_uses_inputs_and_outputs_that_there_are() -> None:
    made = {
        f"steps.{step.get('id')}.outputs.{name}"
        for step in STEPS
        for name in re.findall(r'"(\w+)=', step.get("run", ""))
    }
    made |= {"steps.python.outputs.python-version", "steps.engine.outputs.cache-hit"}
    made |= {f"inputs.{name}" for name in ACTION["inputs"]}
    used = set(re.findall(r"\b(?:steps\.\w+\.outputs|inputs)\.[\w-]+", yaml.safe_dump(ACTION)))
    assert used <= made


def test_shellcheck_has_nothing_to_say_of_the_scripts() -> None:
    shellcheck = str(Path(sys.executable).with_name("shellcheck"))
    for script in (step["run"] for step in STEPS if "run" in step):
        command = [shellcheck, "--shell", "bash", "-"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def uses(node: object) -> Iterator[Mapping[str, Any]]:
    """Every step of a workflow that uses the action."""
    if isinstance(node, Mapping):
        if node.get("uses") == "./.ci/action":
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from uses(one)


@pytest.mark.parametrize("name", ["pull-request.yml", "nightly.yml"])
def test_an_example_gives_the_action_inputs_that_it_has(name: str) -> None:
    (used,) = uses(yaml.safe_load(EXAMPLES[name].read_text("utf-8")))
    assert used.get("with", {}).keys() <= ACTION["inputs"].keys()


@pytest.mark.parametrize("name", ["Jenkinsfile", "gitlab-ci.yml"])
def test_another_server_runs_the_same_script_with_the_same_options(name: str) -> None:
    text = EXAMPLES[name].read_text("utf-8")
    assert f".ci/gate.sh {ACTION['inputs']['arguments']['default']}" in text
    assert "results/gate/junit.xml" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pull-request.yml", "nightly.yml"])
def test_the_arguments_of_an_example_select_tests(name: str) -> None:
    (used,) = uses(yaml.safe_load(EXAMPLES[name].read_text("utf-8")))
    arguments = used.get("with", {}).get("arguments", ACTION["inputs"]["arguments"]["default"])
    command = f"{sys.executable} -m pytest tests/scenarios -m managed --collect-only -q {arguments}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "WEBHOOK": "https://hooks.example/x"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
