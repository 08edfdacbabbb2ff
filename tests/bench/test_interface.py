"""What a user meets on the command line, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.pytest_plugin import scenario_marker, scenario_modules, wants_scenarios
from bench.cli.scenarios import SCENARIOS
from bench.config.peers import load_peers, located
from bench.store import TrialStore
from tests.bench.making import INSTRUMENT, paired

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLI = ("bench", "validation", "lb", "reports")
MODULES = {
    scenario_marker(module): (SCENARIOS / f"{module}.py").read_text(encoding="utf-8")
    for module in scenario_modules()
}
FIRST_MODEL = {name for name, text in MODULES.items() if "first_model: str" in text}
EVERY_MODEL = {name for name, text in MODULES.items() if ", model: str" in text}
ALL_AT_ONCE = MODULES.keys() - EVERY_MODEL - FIRST_MODEL


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def selected(*arguments: str) -> set[str]:
    done = command("pytest", "--collect-only", "-q", *arguments)
    return set(re.findall(r"^tests/scenarios/test_(\S+)$", done.stdout, re.MULTILINE))


def test_managed_selects_every_scenario_for_every_model() -> None:
    tests = selected("-m", "managed", "--models", "tiny-llama,tiny-qwen,tiny-mistral")
    assert {test.split(".py")[0] for test in tests} == set(MODULES)
    assert len(tests) == 3 * len(EVERY_MODEL) + len(FIRST_MODEL) + len(ALL_AT_ONCE)


@pytest.mark.parametrize(
    ("expression", "alone"),
    [
        ("managed", True),
        ("(latency and managed)", True),
        ("heavy_tail", True),
        ("engines and not (baseline or managed)", False),
        ("managed or slow", False),
        ("slow", False),
        ("", False),
    ],
)
def test_tests_of_scenarios_are_told_from_others_by_markers(expression: str, alone: bool) -> None:
    assert wants_scenarios(expression) == alone


def test_where_scenarios_are_wanted_no_other_tests_are_collected() -> None:
    done = command("pytest", "--collect-only", "-q", "-m", "managed", "--models", "tiny-llama")
    found = re.search(r"^(\d+)/(\d+) tests collected", done.stdout, re.MULTILINE)
    assert found is not None
    baseline = selected("-m", "baseline", "--models", "tiny-llama")
    assert int(found[2]) - int(found[1]) == len(baseline)


def test_a_keyword_that_selects_nothing_is_told_what_there_is() -> None:
    done = command("pytest", "-m", "managed", "-k", "heavy-tail")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    (line,) = (one for one in done.stdout.splitlines() if one.startswith("no test is selected"))
    assert re.match(r"no test is selected by -k 'heavy-tail'; .*\bheavy_tail\b", line)


@pytest.mark.parametrize("scenario", sorted(FIRST_MODEL))
def test_a_situation_is_asked_about_the_first_model_only(scenario: str) -> None:
    assert selected("-m", "managed", "-k", scenario, "--models", "tiny-qwen,tiny-llama") == {
        f"{scenario}.py::test_treatment_is_not_worse_than_control[tiny-qwen]"
    }


def test_markers_and_models_combine() -> None:
    tests = selected("-m", "latency and managed", "--models", "tiny-qwen,tiny-llama")
    assert tests == {
        "latency.py::test_treatment_is_not_worse_than_control[tiny-qwen]",
        "latency.py::test_treatment_is_not_worse_than_control[tiny-llama]",
    }


def test_of_several_treatments_each_has_a_test_of_its_own() -> None:
    arms = ("--arms", "baseline,managed,queue-depth", "--models", "tiny-llama")
    better = "heavy_tail.py::test_treatment_is_better_than_control"
    assert selected("-m", "heavy_tail", *arms) == {
        "heavy_tail.py::test_control_meets_slo[tiny-llama]",
        f"{better}[tiny-llama-managed]",
        f"{better}[tiny-llama-queue-depth]",
    }


def test_the_test_of_an_absent_arm_is_skipped_with_the_line_that_installs_it() -> None:
    absent = (name for name, peer in load_peers().items() if located(peer, ROOT / ".cache") is None)
    if (name := next(absent, None)) is None:
        pytest.skip("all of bench/peers.yaml are installed here: uninstall one to see this")
    arms = ("--arms", f"baseline,{name},managed", "--models", "tiny-llama")
    done = command("pytest", *arms, "-m", "heavy_tail and managed", "-k", name)
    (line,) = (one for one in done.stdout.splitlines() if one.startswith("SKIPPED [1]"))
    assert line.endswith(load_peers()[name].absent)
    assert len(selected("-m", "heavy_tail and managed", *arms)) == 2


def test_each_arm_of_two_factors_but_the_control_has_a_test() -> None:
    factors = ("--factorial", "max_num_seqs=4,8", "policy=round-robin,queue-aware")
    assert selected("-m", "burst and managed", "--models", "tiny-llama", *factors) == {
        f"burst.py::test_treatment_is_not_worse_than_control[tiny-llama-{arm}]"
        for arm in (
            "max-num-seqs-4-queue-aware",
            "max-num-seqs-8-round-robin",
            "max-num-seqs-8-queue-aware",
        )
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--models", "tiny-lama"],
            "unknown model 'tiny-lama'; known: tiny-llama, .* 'tiny-llama'",
        ),
        (["--arms", "baseline,mangaed"], "unknown arm 'mangaed'; .* 'managed'"),
        (["--arms", "baseline"], "two names"),
        (
            ["--factorial", "engine=vanilla,kvcached", "policy=round-robin,queue-aware"],
            "--factorial engine needs GPUs: KVCached needs CUDA",
        ),
        (["--profile", "fast"], "--profile takes auto, quick, standard or thorough, seen 'fast'"),
        (["--seed", "1.5"], "--seed takes a whole number, seen '1.5'"),
        (["--load-processes", "0"], "auto or a whole number from 1, seen '0'"),
        (["--env", "mars"], "--env takes local.*k8s.* 'mars'"),
        (["--slo", "none.yaml"], "cannot read none.yaml"),
        (["--topology", "none.yaml"], "cannot read none.yaml"),
        (["--traffic=none.csv"], "cannot read trace none.csv: No such file"),
        (["--traffic=README.md"], "trace README.md has no known format: its first line is"),
        (["--ready-timeout=0"], "--ready-timeout takes seconds above 0, seen '0'"),
        (["--ready-timeout=nan"], "--ready-timeout takes seconds above 0, seen 'nan'"),
        (["--traffic-cut=5"], "--traffic-cut '5' is not FROM:TO in seconds"),
        (["-m", "latncy"], "unknown marker 'latncy' in -m; known: baseline, burst"),
    ],
)
def test_mistake_is_one_line_before_anything_starts(arguments: list[str], message: str) -> None:
    done = command("pytest", "--collect-only", "-q", *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert re.match(f"ERROR: .*{message}", line)


def test_malformed_slo_file_names_file_and_place(tmp_path: Path) -> None:
    slo = tmp_path / "slo.yaml"
    slo.write_text("scenarios: {heavy-tial: {ttft_s: 1}}\n")
    done = command("pytest", "--collect-only", "-q", f"--slo={slo}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{slo}: scenarios.heavy-tial: unknown name; known: burst" in done.stderr


def test_one_slo_file_serves_models_of_all_hardware(tmp_path: Path) -> None:
    slo = tmp_path / "slo.yaml"
    slo.write_text("scenarios: {latency: {models: {qwen2.5-7b: {ttft_s: 0.5}}}}\n")
    tests = selected("-m", "latency and managed", "--models", "tiny-llama", f"--slo={slo}")
    assert tests == {"latency.py::test_treatment_is_not_worse_than_control[tiny-llama]"}


def test_selecting_nothing_is_no_success() -> None:
    assert command("pytest", "-q", "-m", "managed", "-k", "no-such-model").returncode != 0


def test_run_without_a_decision_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "test_skipped.py").write_text(
        "import pytest\n\n@pytest.mark.skip(reason='nothing to see')\ndef test_it(): ...\n"
    )
    done = command("pytest", "-q", "-c", "pytest.ini", "-p", "conftest", str(tmp_path))
    assert "1 skipped" in done.stdout
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--collect-only"], pytest.ExitCode.OK),
        (["--fixtures"], pytest.ExitCode.OK),
        (["--fixtures-per-test"], pytest.ExitCode.OK),
        (["--setup-plan", "-k", "latency and tiny-llama"], pytest.ExitCode.OK),
        (["--setup-only", "-k", "latency and tiny-llama"], pytest.ExitCode.OK),
        (["-k", "recorded_traffic"], pytest.ExitCode.NO_TESTS_COLLECTED),  # skipped without a trace
        (["-k", "no_such_scenario"], pytest.ExitCode.NO_TESTS_COLLECTED),
    ],
)
def test_what_measures_nothing_keeps_the_last_report(
    tmp_path: Path, arguments: list[str], code: pytest.ExitCode
) -> None:
    last = tmp_path / "aaaa-result.json"
    last.write_text("{}")
    chosen = ("tests/scenarios", "-m", "managed", f"--alluredir={tmp_path}")
    done = command("pytest", "-q", *chosen, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [last]


def test_measured_tests_that_a_condition_skips_keep_the_last_report(tmp_path: Path) -> None:
    (tmp_path / "test_skipped.py").write_text(
        "import pytest\n\n@pytest.mark.managed\n@pytest.mark.skipif('True', reason='no cluster')\n"
        "def test_it(): ...\n"
    )
    last = tmp_path / "report" / "aaaa-result.json"
    last.parent.mkdir()
    last.write_text("{}")
    chosen = ("-c", "pytest.ini", "-p", "conftest", f"--alluredir={last.parent}", str(tmp_path))
    assert command("pytest", "-q", *chosen).returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert list(last.parent.iterdir()) == [last]


@pytest.mark.parametrize("report", ["", "missing"])
def test_a_report_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, small_disk: Path, report: str
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.managed\ndef test_it(): ...\n"
    )
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    folder = small_disk / report
    chosen = ("-c", "pytest.ini", "-p", "conftest", f"--alluredir={folder}", str(tmp_path))
    done = command("pytest", "-q", *chosen)
    (line,) = re.findall(r"^error: .*", done.stdout + done.stderr, re.MULTILINE | re.IGNORECASE)
    assert re.fullmatch(
        rf"(?i)error: cannot write {folder}\S*: Read-only file system; free .*", line
    )
    assert "INTERNALERROR" not in done.stdout + done.stderr
    # Before anything is measured, if that is known then; else at the end.
    assert ("1 passed" in done.stdout) == (not report)
    assert done.returncode == (
        pytest.ExitCode.USAGE_ERROR if report else pytest.ExitCode.TESTS_FAILED
    )


@pytest.mark.parametrize("absent", ["allure_pytest", "xdist", "capture", "setupplan"])
def test_no_plugin_is_needed(absent: str) -> None:
    for arguments in (["--collect-only", "tests/scenarios"], ["tests/bench/test_completeness.py"]):
        done = command("pytest", "-q", "-p", f"no:{absent}", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def without_a_reader(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose output nobody reads."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            # Python writes a short text only at its end, unless this says otherwise.
            env={name: one for name, one in os.environ.items() if name != "PYTHONUNBUFFERED"},
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(write)
    return done.returncode, done.stderr


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    for one in paired((1.0,) * 4, (0.3,) * 4):
        TrialStore(tmp_path).save(one)
    assert without_a_reader("bench", "compare", "--results", str(tmp_path)) == (141, "")
    for module in CLI:
        code, said = without_a_reader(module, "--help")
        assert (code in {0, 141}, said) == (True, ""), module
    code, said = without_a_reader("pytest", "--collect-only", "-q", "tests/scenarios")
    assert code != 0
    assert "Error" not in said


def test_judging_without_results_is_one_line(tmp_path: Path) -> None:
    done = command("bench", "compare", "--results", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: no stored trials under {tmp_path}; measure first\n"


@pytest.mark.parametrize(
    ("treatment_s", "options", "code", "last"),
    [
        ((0.3, 0.3, 0.31, 0.32), [], 0, "outcome: held (1 held)"),
        ((2.0, 2.1, 2.0, 1.9), [], 1, "outcome: failed (1 failed)"),
        ((0.7, 1.1, 0.8, 0.9), [], 3, "outcome: undecided (1 undecided)"),
        ((0.7, 1.1, 0.8, 0.9), ["--undecided", "pass"], 0, "outcome: undecided (1 undecided)"),
    ],
)
def test_the_outcome_of_a_stored_run_is_the_exit_code(
    tmp_path: Path, treatment_s: tuple[float, ...], options: list[str], code: int, last: str
) -> None:
    for one in paired((1.0,) * len(treatment_s), treatment_s):
        TrialStore(tmp_path).save(one)
    done = command("bench", "compare", "--results", str(tmp_path), *options)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines()[-1] == last


def test_a_failed_instrument_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    late = replace(INSTRUMENT, dispatch_lag_p99_s=9.0)
    for one in paired((1.0,) * 4, (0.3,) * 4):
        TrialStore(tmp_path).save(replace(one, instrument=late))
    done = command("bench", "compare", "--results", str(tmp_path))
    assert done.returncode == 4
    assert "dispatch lag p99 9000 ms" in " ".join(done.stdout.split())


@pytest.mark.parametrize("module", CLI)
def test_every_program_explains_itself(module: str) -> None:
    done = command(module, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m")
