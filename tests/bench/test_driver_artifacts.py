"""What aiperf and genai-perf record of requests, read into samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.drivers.artifacts import aiperf, genai_perf
from bench.drivers.genai_perf import named
from bench.drivers.tools import drive_result
from bench.errors import UserError
from bench.load.run.drive import Ending
from bench.records import ErrorKind
from tests.bench.artifacts import (
    aiperf_line,
    genai_perf_export,
    genai_perf_request,
    write_lines,
)
from tests.bench.load_source import ANSWER, ROLE, STOP, closed, delta, event, opened, usage

DONE = b"data: [DONE]\n\n"


def lines(folder: Path, *content: dict[str, Any]) -> Path:
    return write_lines(folder / "profile_export.jsonl", list(content))


def export(folder: Path, *requests: dict[str, Any]) -> Path:
    path = folder / "profile_export.json"
    path.write_text(json.dumps(genai_perf_export(list(requests))))
    return path


def test_chunks_follow_the_first_by_the_recorded_gaps(tmp_path: Path) -> None:
    (entry,) = aiperf.read_records(lines(tmp_path, aiperf_line("0", gaps_ms=(20.0, 0.0, 30.0))))
    assert entry.answer.chunk_s == pytest.approx((0.1, 0.12, 0.12, 0.15))


def test_tokens_are_the_servers_and_not_those_counted_again(tmp_path: Path) -> None:
    (entry,) = aiperf.read_records(lines(tmp_path, aiperf_line("0", tokens=(16, 3))))
    assert (entry.answer.prompt_tokens, entry.answer.output_tokens) == (16, 3)


def test_a_warm_up_is_not_measured(tmp_path: Path) -> None:
    path = lines(tmp_path, aiperf_line("w", phase="warmup"), aiperf_line("m"))
    assert [entry.name for entry in aiperf.read_records(path)] == ["m"]


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"code": 503, "type": "Busy", "message": "no"}, ErrorKind.UNAVAILABLE, 503),
        ({"type": "ClientConnectorError", "message": "refused"}, ErrorKind.CONNECT, None),
        ({"type": "ClientOSError", "message": "reset"}, ErrorKind.DISCONNECT, None),
        ({"type": "ClientPayloadError", "message": "cut"}, ErrorKind.DISCONNECT, None),
        ({"type": "TimeoutError", "message": ""}, ErrorKind.TIMEOUT, None),
        ({"code": 499, "type": "RequestCancellationError"}, ErrorKind.TIMEOUT, None),
        ({"type": "InvalidInferenceResultError", "message": "none"}, ErrorKind.EMPTY, None),
    ],
)
def test_errors_of_aiperf_have_their_kind(
    tmp_path: Path, error: dict[str, Any], kind: ErrorKind, status: int | None
) -> None:
    (entry,) = aiperf.read_records(lines(tmp_path, aiperf_line("0", error=error)))
    assert entry.answer.failure is not None
    assert (entry.answer.failure.kind, entry.answer.status) == (kind, status)


def test_blank_lines_and_a_missing_last_newline_lose_nothing(tmp_path: Path) -> None:
    path = lines(tmp_path, aiperf_line("0"), aiperf_line("1", issued_ms=1))
    path.write_text("\n" + path.read_text().replace("\n", "\n\n").rstrip("\n"))
    assert [entry.name for entry in aiperf.read_records(path)] == ["0", "1"]


def test_a_line_that_was_being_written_is_left_out(tmp_path: Path) -> None:
    path = lines(tmp_path, aiperf_line("0"), aiperf_line("1"))
    path.write_text(path.read_text()[:-20])
    assert [entry.name for entry in aiperf.read_records(path)] == ["0"]


def test_a_failed_request_may_be_without_metrics(tmp_path: Path) -> None:
    line = aiperf_line("0", error={"code": 499, "type": "RequestCancellationError"})
    (entry,) = aiperf.read_records(lines(tmp_path, line | {"metrics": None}))
    assert entry.answer.failure is not None
    assert entry.answer.failure.kind is ErrorKind.TIMEOUT


def test_a_latency_that_is_no_number_is_damage(tmp_path: Path) -> None:
    path = lines(tmp_path, aiperf_line("0", ttft_ms=float("nan")))
    with pytest.raises(UserError, match=r"line 1: metrics.time_to_first_token.value"):
        aiperf.read_records(path)


def test_without_gaps_the_end_is_still_known(tmp_path: Path) -> None:
    line = aiperf_line("0")
    del line["metrics"]["inter_chunk_latency"]
    line["metrics"]["request_latency"] = {"value": 140.0, "unit": "ms"}
    (entry,) = aiperf.read_records(lines(tmp_path, line))
    assert entry.answer.chunk_s == pytest.approx((0.1, 0.14))


def test_a_server_that_never_tells_usage_is_no_failure(tmp_path: Path) -> None:
    (entry,) = aiperf.read_records(lines(tmp_path, aiperf_line("0", tokens=None)))
    assert entry.answer.failure is None
    assert entry.answer.output_tokens is None


def answers(*parts: bytes) -> list[tuple[float, bytes]]:
    return [(10.0 * (index + 1), part) for index, part in enumerate(parts)]


def test_genai_perf_is_read_by_the_rules_of_the_built_in_client(tmp_path: Path) -> None:
    together = delta(content="two") + STOP + usage(7, 2) + DONE
    request = genai_perf_request("p", answers=answers(ROLE, delta(content="one "), together))
    (entry,) = genai_perf.read_records(export(tmp_path, request))
    assert entry.answer.chunk_s == pytest.approx((0.02, 0.03))
    assert (entry.name, entry.answer.prompt_tokens, entry.answer.output_tokens) == ("p", 7, 2)
    assert entry.answer.failure is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ROLE + STOP + DONE, ErrorKind.EMPTY),
        (delta(content="a"), ErrorKind.TRUNCATED),
        (delta(content="a") + event(error={"message": "boom"}), ErrorKind.SERVER),
    ],
)
def test_failures_that_genai_perf_does_not_see_are_seen(
    tmp_path: Path, answer: bytes, kind: ErrorKind
) -> None:
    (entry,) = genai_perf.read_records(
        export(tmp_path, genai_perf_request("p", answers=answers(answer)))
    )
    assert entry.answer.failure is not None
    assert entry.answer.failure.kind is kind


NO_MESSAGES = genai_perf_request("p", answers=[]) | {
    "request_inputs": {"payload": '{"messages": []}'}
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("profile_export.jsonl", "{}\n", "line 1: metadata Field required"),
        ("profile_export.jsonl", '{"metadata":\n', "line 1: .*JSON"),
        (
            "profile_export.json",
            json.dumps(genai_perf_export([NO_MESSAGES])),
            "payload.messages List should have at least 1 item",
        ),
        ("profile_export.json", "[]", "is damaged or of another tool"),
        ("profile_export.json", '{"service_kind": "triton"}', "service_kind"),
    ],
)
def test_damaged_records_are_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    read = aiperf.read_records if name.endswith("l") else genai_perf.read_records
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_character_that_was_being_written_loses_only_its_line(tmp_path: Path) -> None:
    path = lines(tmp_path, aiperf_line("0"))
    half = json.dumps(aiperf_line("é"), ensure_ascii=False).encode()
    path.write_bytes(path.read_bytes() + half[: half.index("é".encode()) + 1])
    assert [entry.name for entry in aiperf.read_records(path)] == ["0"]


def test_an_answer_without_a_first_token_is_empty_and_the_rest_is_read(tmp_path: Path) -> None:
    line = aiperf_line("0")
    del line["metrics"]["time_to_first_token"]
    path = lines(tmp_path, line, aiperf_line("1", issued_ms=1))
    empty, whole = aiperf.read_records(path)
    assert empty.answer.failure is not None
    assert (empty.answer.failure.kind, empty.answer.status) == (ErrorKind.EMPTY, 200)
    assert whole.answer.failure is None


def test_records_that_were_not_streamed_are_refused(tmp_path: Path) -> None:
    line = aiperf_line("0")
    del line["metrics"]["time_to_first_token"]
    with pytest.raises(UserError, match="record with --streaming"):
        aiperf.read_records(lines(tmp_path, line))


def test_an_open_loop_counts_lateness_from_its_schedule(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        aiperf_line("0", issued_ms=5, late_ms=1),
        aiperf_line("1", issued_ms=108, late_ms=2),
    )
    result = drive_result(opened([0.0, 0.1], 0.2), aiperf.read_records(path), Ending.COMPLETE)
    assert [sample.scheduled_s for sample in result.samples] == [0.0, 0.1]
    # the first was issued on time, the second 3 ms late; both were sent after that
    assert [sample.sent_s for sample in result.samples] == pytest.approx([0.001, 0.105])
    assert result.instrument.dispatch_lag_p99_s == pytest.approx(0.005, abs=1e-4)
    assert result.instrument.cpu_share is None


def test_a_request_without_a_record_is_an_attempt_that_failed(tmp_path: Path) -> None:
    entries = aiperf.read_records(lines(tmp_path, aiperf_line("1", issued_ms=100)))
    result = drive_result(opened([0.0, 0.1], 0.2), entries, Ending.COMPLETE)
    assert [sample.error for sample in result.samples] == [ErrorKind.TIMEOUT, None]
    assert result.samples[0].sent_s is None
    interrupted = drive_result(opened([0.0, 0.1], 0.2), entries, Ending.INTERRUPTED)
    assert [sample.index for sample in interrupted.samples] == [1]
    assert interrupted.cut_short


def test_a_request_of_a_closed_loop_that_left_no_record_has_failed(tmp_path: Path) -> None:
    entries = aiperf.read_records(lines(tmp_path, aiperf_line("0"), aiperf_line("2")))
    result = drive_result(closed(9, 2, 30.0), entries, Ending.COMPLETE)
    # Those behind the last one that was sent had no turn.
    assert [sample.error for sample in result.samples] == [None, ErrorKind.TIMEOUT, None]
    interrupted = drive_result(closed(9, 2, 30.0), entries, Ending.INTERRUPTED)
    assert [sample.index for sample in interrupted.samples] == [0, 2]


def test_a_request_of_an_open_loop_at_the_tools_own_times_needs_a_record(tmp_path: Path) -> None:
    entries = aiperf.read_records(lines(tmp_path, aiperf_line("0")))
    result = drive_result(opened([0.0, 0.1], 0.2), entries, Ending.COMPLETE, timed=False)
    assert [sample.error for sample in result.samples] == [None, ErrorKind.TIMEOUT]


def test_equal_prompts_are_different_requests_of_genai_perf(tmp_path: Path) -> None:
    prompts = ("same", "other", "same")
    sent = [
        genai_perf_request(prompt, sent_ms=at, answers=[(10.0, ANSWER)])
        for at, prompt in enumerate((*prompts, "same"))
    ]
    entries = genai_perf.read_records(export(tmp_path, *sent))
    assert [(one.name, one.sent_ns) for one in named(entries, prompts)] == [
        (str(index), entries[index].sent_ns) for index in range(3)
    ]


def test_a_closed_loop_that_ran_dry_is_cut_short(tmp_path: Path) -> None:
    entries = aiperf.read_records(lines(tmp_path, aiperf_line("0"), aiperf_line("1")))
    assert drive_result(closed(2, 2, 30.0), entries, Ending.COMPLETE).ending is Ending.RAN_DRY
    assert drive_result(closed(3, 2, 30.0), entries, Ending.COMPLETE).ending is Ending.COMPLETE


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=20), st.floats(0.0, 1e6))
def test_no_request_was_early_and_some_was_on_time(at_s: list[float], start_ms: float) -> None:
    at_s = sorted(round(one, 6) for one in at_s)
    issued = [
        aiperf_line(str(index), issued_ms=start_ms + at * 1000, late_ms=0.0)
        for index, at in enumerate(at_s)
    ]
    entries = [aiperf._entry(aiperf._Line.model_validate(line)) for line in issued]
    result = drive_result(opened(at_s, 6.0), entries, Ending.COMPLETE)
    lags = [(one.sent_s or 0.0) - one.scheduled_s for one in result.samples]
    assert min(lags) == pytest.approx(0.0, abs=1e-6)
    assert max(lags) == pytest.approx(0.0, abs=1e-6)


def test_a_whole_answer_is_read_alike_from_both_tools(tmp_path: Path) -> None:
    request = genai_perf_request("0", answers=[(100.0, ANSWER)])
    (seen,) = genai_perf.read_records(export(tmp_path, request))
    (other,) = aiperf.read_records(lines(tmp_path, aiperf_line("0", gaps_ms=(0.0,), tokens=(7, 2))))
    assert seen.answer.chunk_s == pytest.approx(other.answer.chunk_s)
    assert seen.answer.output_tokens == other.answer.output_tokens
