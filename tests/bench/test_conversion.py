"""`python -m bench convert`: artifact folders as trials or judgements, or one line why not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.cli.commands import main
from bench.cli.conversion import convert
from bench.errors import UserError
from bench.records import ErrorKind, Trial
from bench.store import TrialStore
from tests.bench.artifacts import (
    aiperf_line,
    aiperf_loadgen_report,
    aiperf_report,
    genai_perf_export,
    genai_perf_flat_report,
    genai_perf_report,
    genai_perf_request,
    write_lines,
)
from tests.bench.load_source import ANSWER

RUN = "20260131-235959-a1b2"


def report(folder: Path, content: dict[str, Any], name: str = "aiperf") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"profile_export_{name}.json").write_text(json.dumps(content))
    return folder


def aiperf_folder(folder: Path, recorded: int, reported: int, **changes: Any) -> Path:
    write_lines(
        folder / "profile_export.jsonl",
        [aiperf_line(f"session_{i}", issued_ms=50.0 * i) for i in range(recorded)],
    )
    return report(folder, aiperf_report(reported, **changes))


def stored(results: Path) -> Trial:
    (trial,) = TrialStore(results).load_run(RUN)
    return trial


def real(tool: str) -> Path:
    folders = [os.environ.get("SAMPLES"), Path(__file__).parents[3] / "shared" / "samples"]
    found = [Path(folder) / tool for folder in folders if folder and (Path(folder) / tool).is_dir()]
    if not found:
        pytest.skip(f"no artifacts of {tool}: set SAMPLES to a folder that has them")
    return found[0]


def test_recorded_requests_become_a_stored_trial_of_the_arm(tmp_path: Path) -> None:
    folder = aiperf_folder(tmp_path / "run", 20, 20)
    judgement, path = convert(folder, "theirs", RUN, tmp_path / "results")
    trial = stored(tmp_path / "results")
    assert (trial.arm, trial.environment, trial.concurrency) == ("theirs", "external", 4)
    assert (trial.driver.name, trial.driver.version) == ("aiperf", "0.13.0")
    assert len(trial.samples) == 20
    assert not trial.cut_short
    values = {one.metric: one.value for one in judgement.summaries}
    assert values["ttft_p50_s"] == pytest.approx(0.1)
    # three tokens by the server's count, not four as aiperf counted
    assert values["tpot_p50_s"] == pytest.approx(0.02)
    assert values["throughput_rps"] == pytest.approx(20 / trial.duration_s)
    assert [one.slo.ttft_s for one in judgement.slos] == [0.5]
    assert judgement.invalid_reasons == ()
    assert any("computed again" in note for note in judgement.notes)
    assert json.loads(path.read_text())["run"]["tool"] == "aiperf"


def test_records_that_lack_some_of_the_answers_do_not_count(tmp_path: Path) -> None:
    folder = aiperf_folder(tmp_path / "run", 8, 20)
    judgement, _ = convert(folder, "theirs", RUN, tmp_path / "results")
    assert any("cut short" in reason for reason in judgement.invalid_reasons)
    assert any("8 of the 20 answers" in note for note in judgement.notes)


def test_a_model_named_like_a_path_is_stored(tmp_path: Path) -> None:
    folder = aiperf_folder(tmp_path / "run", 3, 3, model="meta-llama/Llama-3.1-8B")
    convert(folder, "theirs", RUN, tmp_path / "results")
    assert stored(tmp_path / "results").models == ("meta-llama-Llama-3.1-8B",)


@pytest.mark.parametrize("model", ["/models/llama", "./llama", "../llama"])
def test_a_model_named_by_its_folder_is_stored(tmp_path: Path, model: str) -> None:
    convert(aiperf_folder(tmp_path / "run", 3, 3, model=model), "theirs", RUN, tmp_path / "results")
    (stored_model,) = stored(tmp_path / "results").models
    assert stored_model.endswith("llama")


@pytest.mark.parametrize(
    ("extra", "error"), [({"ignore_eos": True}, ErrorKind.SHORT), ({"top_p": 1}, None)]
)
def test_only_an_answer_that_had_to_be_as_long_is_short(
    tmp_path: Path, extra: dict[str, Any], error: ErrorKind | None
) -> None:
    content = aiperf_report(2)
    content["input_config"]["endpoint"] = {"extra": extra}
    folder = report(tmp_path / "run", content)
    pair = [aiperf_line("a"), aiperf_line("b", issued_ms=50.0, tokens=(16, 2))]
    write_lines(folder / "profile_export.jsonl", pair)
    judgement, _ = convert(folder, "theirs", RUN, tmp_path / "results")
    trial = stored(tmp_path / "results")
    assert [sample.error for sample in trial.samples] == [None, error]
    assert not trial.cut_short
    assert any("1 short" in note for note in judgement.notes) == (error is not None)


def test_statistics_alone_are_said_to_be_the_tools_own(tmp_path: Path) -> None:
    folder = report(tmp_path / "run", genai_perf_report(), "genai_perf")
    judgement, _ = convert(folder, "theirs", RUN, tmp_path / "results")
    values = {one.metric: one for one in judgement.summaries}
    assert values["ttft_p50_s"].value == pytest.approx(0.1)
    assert values["goodput_rps"].value == 3.0
    assert {one.n for one in values.values()} == {20}
    assert "error_rate" not in values
    assert any("not reported: error_rate" in note for note in judgement.notes)
    assert any("encoding the answer again" in note for note in judgement.notes)
    assert not TrialStore(tmp_path / "results").has_run(RUN)


def test_genai_perfs_raw_export_makes_it_a_trial(tmp_path: Path) -> None:
    folder = report(
        tmp_path / "run",
        genai_perf_report() | {"request_count": {"unit": "count", "avg": 2.0}},
        "genai_perf",
    )
    requests = [
        genai_perf_request(f"p{i}", sent_ms=10.0 * i, answers=[(100.0, ANSWER)]) for i in range(2)
    ]
    (folder / "profile_export.json").write_text(json.dumps(genai_perf_export(requests)))
    convert(folder, "theirs", RUN, tmp_path / "results")
    trial = stored(tmp_path / "results")
    assert trial.driver.name == "genai-perf"
    assert [sample.output_tokens for sample in trial.samples] == [2, 2]


def test_a_folder_above_the_only_run_will_do(tmp_path: Path) -> None:
    aiperf_folder(tmp_path / "artifacts" / "tiny-concurrency4", 3, 3)
    convert(tmp_path / "artifacts", "theirs", RUN, tmp_path / "results")
    assert len(stored(tmp_path / "results").samples) == 3


def test_an_older_aiperf_is_read_like_the_present_one(tmp_path: Path) -> None:
    lines = [aiperf_line(f"s{i}", issued_ms=50.0 * i) for i in range(3)]
    write_lines(tmp_path / "old" / "profile_export.jsonl", lines)
    judgement, _ = convert(
        report(tmp_path / "old", aiperf_loadgen_report(3)), "theirs", RUN, tmp_path / "results"
    )
    trial = stored(tmp_path / "results")
    assert (trial.models, trial.concurrency, trial.driver.version) == (("tiny",), 4, "0.8.0")
    assert [one.slo.ttft_s for one in judgement.slos] == [0.5]
    assert {sample.wanted_output_tokens for sample in trial.samples} == {3}


def test_an_older_genai_perf_is_read_like_the_present_one(tmp_path: Path) -> None:
    old = report(tmp_path / "old", genai_perf_flat_report(), "genai_perf")
    new = report(tmp_path / "new", genai_perf_report(), "genai_perf")
    values, same = (
        convert(folder, "theirs", RUN, tmp_path / "results")[0].summaries for folder in (old, new)
    )
    assert values == same


@pytest.mark.parametrize("tool", ["aiperf", "genai_perf"])
def test_a_run_under_another_name_is_a_run(tmp_path: Path, tool: str) -> None:
    if tool == "aiperf":
        folder = aiperf_folder(tmp_path, 3, 3)
        (folder / "profile_export.jsonl").rename(folder / "mine.jsonl")
    else:
        content = genai_perf_report() | {"request_count": {"unit": "count", "avg": 3.0}}
        folder = report(tmp_path, content, tool)
        requests = [genai_perf_request(f"p{i}", answers=[(100.0, ANSWER)]) for i in range(3)]
        (folder / "mine.json").write_text(json.dumps(genai_perf_export(requests)))
    (folder / f"profile_export_{tool}.json").rename(folder / f"mine_{tool}.json")
    convert(folder, "theirs", RUN, tmp_path / "results")
    assert len(stored(tmp_path / "results").samples) == 3


def test_when_requests_were_due_may_be_unknown(tmp_path: Path) -> None:
    folder = aiperf_folder(tmp_path / "run", 0, 2)
    lines = [aiperf_line(f"s{i}", issued_ms=50.0 * i, late_ms=7.0) for i in range(2)]
    for line in lines:
        del line["metadata"]["credit_issued_ns"]
    write_lines(folder / "profile_export.jsonl", lines)
    judgement, _ = convert(folder, "theirs", RUN, tmp_path / "results")
    samples = stored(tmp_path / "results").samples
    assert [sample.scheduled_s for sample in samples] == [sample.sent_s for sample in samples]
    assert any("when requests were due is not recorded" in note for note in judgement.notes)


def test_an_unknown_version_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    folder = report(tmp_path, aiperf_report(1, aiperf_version="9.9.9", input_config={"new": 1}))
    with pytest.raises(
        UserError, match=r"lacks 'phases' \(aiperf 9.9.9 wrote it; known are aiperf"
    ):
        convert(folder, "theirs", RUN, tmp_path / "results")


def test_a_latency_in_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    content = aiperf_report(1, time_to_first_token={"unit": "fortnights", "avg": 1.0})
    with pytest.raises(UserError, match="time_to_first_token is in 'fortnights'"):
        convert(report(tmp_path, content), "theirs", RUN, tmp_path / "results")


def with_config(**changes: Any) -> dict[str, Any]:
    content = aiperf_report(1)
    content["input_config"] |= changes
    return content


def test_what_a_report_leaves_open_is_not_told(tmp_path: Path) -> None:
    content = with_config(datasets=[{"prompts": None}], endpoint=None, slos=None)
    content["request_throughput"]["avg"] = float("nan")
    judgement, _ = convert(report(tmp_path, content), "theirs", RUN, tmp_path / "results")
    assert "throughput_rps" not in {one.metric for one in judgement.summaries}
    assert any("not reported: throughput_rps" in note for note in judgement.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged"),
        ('{"input_config": ' + "[" * 100_000, "is damaged"),
        (json.dumps({"input_config": {}}), "it lacks"),
        (json.dumps(aiperf_report(1))[:300], "is damaged"),
        (json.dumps(with_config(models={"items": []})), "it has no models"),
        (json.dumps(with_config(phases=[{"kind": "profiling", "rate": "5"}])), "'5', no number"),
        (json.dumps(aiperf_report(1, input_config={"phases": []})), "is damaged"),
    ],
)
def test_a_damaged_report_is_one_line(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profile_export_aiperf.json").write_text(content)
    assert main(["convert", str(tmp_path), "--results", str(tmp_path / "results")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'profile_export_aiperf.json'}")
    assert message in line


def test_foreign_missing_and_ambiguous_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is no file and no folder"):
        convert(tmp_path / "none", "theirs", RUN, tmp_path)
    with pytest.raises(UserError, match="holds no result: the folder is empty; known are"):
        convert(tmp_path, "theirs", RUN, tmp_path)
    for content in ("[]", "{}", "[" * 100_000):
        (tmp_path / "profile_export_aiperf.json").write_text(content)
        with pytest.raises(UserError, match=r"holds no result: 1 file \(profile_export_aiperf"):
            convert(tmp_path, "theirs", RUN, tmp_path)
    (tmp_path / "profile_export_aiperf.json").unlink()
    for name in "ab":
        aiperf_folder(tmp_path / name, 1, 1)
    with pytest.raises(UserError, match=r"holds 2 runs .*; give one of them"):
        convert(tmp_path, "theirs", RUN, tmp_path)


def test_what_is_converted_is_printed_and_can_be_judged_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, results = aiperf_folder(tmp_path / "run", 20, 20), tmp_path / "results"
    assert main(["convert", str(folder), "--arm", "theirs", "--results", str(results)]) == 0
    printed = capsys.readouterr().out
    assert "TTFT p50" in printed
    assert "driver aiperf" in printed
    assert main(["compare", "--results", str(results)]) == 0
    assert "TTFT p50" in capsys.readouterr().out


def test_real_artifacts_of_aiperf(tmp_path: Path) -> None:
    judgement, _ = convert(real("aiperf"), "theirs", RUN, tmp_path)
    trial = stored(tmp_path)
    assert len(trial.samples) == 8  # the file was cut to 12 lines, 4 of them of the warm-up
    assert {sample.output_tokens for sample in trial.samples} == {16}
    assert any("8 of the 20 answers" in note for note in judgement.notes)


def test_real_artifacts_of_genai_perf(tmp_path: Path) -> None:
    judgement, _ = convert(real("genai-perf"), "theirs", RUN, tmp_path)
    values = {one.metric: one.value for one in judgement.summaries}
    assert values["ttft_p50_s"] == pytest.approx(0.1240440965)
    assert values["tpot_p50_s"] == pytest.approx(0.0104, abs=1e-4)
    assert values["throughput_rps"] == pytest.approx(13.8697, abs=1e-4)
