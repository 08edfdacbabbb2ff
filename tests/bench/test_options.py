from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from bench.cli.commands import COMMANDS, main
from bench.cli.options import OPTIONS, add_options, options_page, read_options
from bench.config.options import PYTEST, Options
from bench.errors import UserError
from bench.load.plan.traces.files import Cut

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "options.md"
EVERY_OPTION = (
    "--env k8s --models a,b,a --arms x,y --profile quick --slo s.yaml --topology t.yaml --seed 7"
    " --keep-env --load-processes 3 --driver openai --traffic t.csv --traffic-cut 5:9"
    " --hardware gpu --layout colocated --kubeconfig c --context prod --ready-timeout 60 --undecided pass"
    " --wait-for-run 0"
    " --url control=http://a --url treatment=http://b --endpoints e.yaml --api-key-env KEY --ca c"
    " --webhook-env HOOK"
    " --insecure --rate 2.5 --concurrency 8 --max-requests 100 --max-tokens 9 --yes"
)


def test_the_page_in_the_docs_follows_the_declarations() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page(), (
        "run python -m bench options > docs/reference/options.md"
    )


def test_options_belong_to_commands_that_exist() -> None:
    known = {PYTEST, *(command.name for command in COMMANDS)}
    assert {command for one in OPTIONS for command in one.commands} <= known


def test_what_is_not_given_has_its_default() -> None:
    nothing = dict.fromkeys(one.name for one in OPTIONS)
    assert read_options({}, PYTEST) == read_options(nothing, PYTEST) == Options()


def test_every_option_of_pytest_can_be_typed() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument, PYTEST)
    typed = parser.parse_args(shlex.split(EVERY_OPTION))
    assert read_options(vars(typed), PYTEST) == Options(
        env="k8s",
        models=("a", "b"),
        arms=("x", "y"),
        profile="quick",
        slo=Path("s.yaml"),
        topology=Path("t.yaml"),
        seed=7,
        keep_env=True,
        load_processes=3,
        driver="openai",
        traffic=Path("t.csv"),
        traffic_cut=Cut(5.0, 9.0),
        hardware="gpu",
        layout="colocated",
        kubeconfig=Path("c"),
        context="prod",
        ready_timeout=60.0,
        wait_for_run=0.0,
        undecided="pass",
        url=("control=http://a", "treatment=http://b"),
        endpoints="e.yaml",
        api_key_env="KEY",
        ca=Path("c"),
        insecure=True,
        rate=2.5,
        concurrency=8,
        max_requests=100,
        max_tokens=9,
        yes=True,
        webhook_env="HOOK",
    )


def test_every_option_of_pytest_is_typed_above() -> None:
    typed = {word for word in shlex.split(EVERY_OPTION) if word.startswith("--")}
    assert typed == {one.flag for one in OPTIONS if PYTEST in one.commands}


def test_model_is_another_name_of_models() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument, PYTEST)
    assert vars(parser.parse_args(["--model", "a"]))["models"] == "a"


@pytest.mark.parametrize(
    ("name", "typed", "takes"),
    [
        ("seed", "1.5", "--seed takes a whole number, seen '1.5'"),
        ("arms", "a,b,c", r"--arms takes control,treatment \(two names\), seen 'a,b,c'"),
        ("arms", "a,", r"--arms takes control,treatment \(two names\), seen 'a,'"),
        ("load_processes", "-1", "--load-processes takes auto or a whole number from 1, seen '-1'"),
        ("ready_timeout", "soon", "--ready-timeout takes seconds above 0, seen 'soon'"),
        ("wait_for_run", "-1", "--wait-for-run takes seconds from 0, seen '-1'"),
        ("ready_timeout", "inf", "--ready-timeout takes seconds above 0, seen 'inf'"),
        ("undecided", "maybe", "--undecided takes fail or pass, seen 'maybe'"),
        ("hardware", "", "--hardware takes cpu or gpu, seen ''"),
    ],
)
def test_a_mistake_says_what_the_option_takes(name: str, typed: str, takes: str) -> None:
    with pytest.raises(UserError, match=f"^{takes}$"):
        read_options({name: typed}, PYTEST)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["compare", "--undecided", "maybe"], "--undecided takes fail or pass, seen 'maybe'"),
        (
            ["compare", "--seed", "1"],
            "unrecognized arguments: --seed; see python -m bench",
        ),
        (["comprae"], "argument COMMAND: invalid choice: 'comprae'"),
        (["status", "--env", "external"], "--env takes local, k8s or docker, seen 'external'"),
        (["health", "--format", "md"], "--format takes json, seen 'md'"),
        (["deploy", "basline"], "unknown arm 'basline'"),
        (["logs", "--context", "lab"], "--context belongs to --env k8s, seen --env local"),
        (["deploy", "--hardware", "gpu"], "--hardware takes cpu, and gpu with --env docker or k8s"),
    ],
)
def test_a_mistake_in_a_command_is_one_line(
    capsys: pytest.CaptureFixture[str], typed: list[str], message: str
) -> None:
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
