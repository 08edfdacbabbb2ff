"""Recorded traffic: files as they are published."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.load.plan.traces.files import Cut, Trace, parse_cut, read_trace
from bench.load.plan.traces.replay import fit_trace

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9305900,396,109
2023-11-16 18:16:46.6805900,879,55
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
45,GPT-4,10,0,10,API log
118,GPT-4,417,276,693,Conversation log
"""
BURSTGPT_WITH_SESSIONS = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
0,7,1.5,ChatGPT,472,18,490,Conversation log
2.5,7,3,ChatGPT,500,20,520,Conversation log
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 1100, "output_length": 500, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 1030, "output_length": 52, "hash_ids": [0, 1, 3]}
"""
BAILIAN = """\
{"chat_id": 0, "timestamp": 0.0, "input_length": 100, "output_length": 20, \
"hash_ids": [0, 1, 2, 3, 4, 5, 6]}
{"chat_id": 1, "timestamp": 61.5, "input_length": 90, "output_length": 30, \
"hash_ids": [0, 1, 2, 3, 4, 9]}
"""
NO_HASH_IDS = """\
{"timestamp": 0, "input_length": 256, "output_length": 128}
{"timestamp": 200, "input_length": 256, "output_length": 128}
"""
NO_NUMBERS: tuple[object, ...] = ("0", None, True, [])
NO_TIMES = ("nan", "NaN", "inf", "-inf", "", "1e999")


def mooncake(**changes: object) -> str:
    """Two rows of Mooncake, and a third with other fields."""
    row = {"timestamp": 7777, "input_length": 1030, "output_length": 1, "hash_ids": [1, 2, 3]}
    return MOONCAKE + json.dumps(row | changes) + "\n"


def read(tmp_path: Path, text: str, cut: str = ":") -> Trace:
    path = tmp_path / "trace"
    path.write_text(text)
    return read_trace(path, parse_cut(cut))


def rows(trace: Trace) -> list[tuple[float, int, int]]:
    return [(round(one.at_s, 6), one.prompt_tokens, one.output_tokens) for one in trace.requests]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (AZURE, [(0, 374, 44), (4.25, 396, 109), (60, 879, 55)]),
        (AZURE.replace("00,", "00+00:00,"), [(0, 374, 44), (4.25, 396, 109), (60, 879, 55)]),
        (BURSTGPT, [(0, 472, 18), (40, 1087, 230), (113, 417, 276)]),
        (BURSTGPT_WITH_SESSIONS, [(0, 472, 18), (2.5, 500, 20)]),
        (MOONCAKE, [(0, 1100, 500), (3, 1030, 52)]),
        (BAILIAN, [(0, 100, 20), (61.5, 90, 30)]),
    ],
    ids=["azure-2023", "azure-2024", "burstgpt", "burstgpt-3", "mooncake", "bailian"],
)
def test_a_format_is_known_from_the_first_line(
    text: str, expected: list[tuple[float, int, int]], tmp_path: Path
) -> None:
    assert rows(read(tmp_path, text)) == expected
    assert rows(read(tmp_path, text.rstrip().replace("\n", "\r\n"))) == expected


@pytest.mark.parametrize("text", [AZURE, BURSTGPT, MOONCAKE, BAILIAN])
def test_blank_lines_marks_and_line_ends_change_nothing(text: str, tmp_path: Path) -> None:
    expected = rows(read(tmp_path, text))
    assert rows(read(tmp_path, "\n \n" + text.replace("\n", "\n\n"))) == expected
    assert rows(read(tmp_path, "\ufeff" + text.replace("\n", "\r"))) == expected


def test_spaces_after_commas_are_no_part_of_a_quoted_header(tmp_path: Path) -> None:
    text = BURSTGPT.replace("Request tokens", '"Request tokens"').replace(",", ", ")
    assert rows(read(tmp_path, text)) == rows(read(tmp_path, BURSTGPT))


def test_blocks_are_kept_and_failed_requests_counted(tmp_path: Path) -> None:
    assert [one.blocks for one in read(tmp_path, MOONCAKE).requests] == [(0, 1, 2), (0, 1, 3)]
    assert read(tmp_path, BURSTGPT).empty == 1


@pytest.mark.parametrize("text", [AZURE, BURSTGPT, MOONCAKE, BAILIAN])
@pytest.mark.parametrize("cut", [":", "0:", ":46", "40:"])
@given(data=st.data())
def test_every_row_is_used_or_counted_in_whatever_order_they_stand(
    text: str, cut: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = text.splitlines()
    head, body = ([], lines) if text.startswith("{") else (lines[:1], lines[1:])
    folder = tmp_path_factory.mktemp("traces")

    def outcome(rows: list[str]) -> tuple[object, ...]:
        try:
            found = read(folder, "\n".join([*head, *rows]), cut)
        except UserError as error:
            return (str(error),)
        assert found.rows == len(body)
        assert len(found.requests) + found.empty + found.outside == len(body)
        assert found.unordered < max(1, len(body))
        return rows_set(found), found.empty, found.outside

    assert outcome(data.draw(st.permutations(body))) == outcome(body)


def rows_set(trace: Trace) -> list[tuple[float, int, int, tuple[int, ...]]]:
    return sorted(
        (round(one.at_s, 6), one.prompt_tokens, one.output_tokens, one.blocks)
        for one in trace.requests
    )


def test_what_was_left_out_or_moved_is_said(tmp_path: Path) -> None:
    head, *body = BURSTGPT.splitlines()
    backwards = "\n".join([head, *reversed(body)])
    assert "of trace (4 rows)" in str(fit_trace(read(tmp_path, BURSTGPT), 8192))
    told = str(fit_trace(read(tmp_path, backwards, "40:"), 8192))
    assert "2 requests in 73 s of trace (4 rows)" in told
    assert "1 rows without prompt or answer left out" in told
    assert "1 rows outside the cut left out" in told
    assert "3 rows put in the order of time" in told


def test_blocks_of_another_size_share_what_they_shared(tmp_path: Path) -> None:
    trace = read(tmp_path, BAILIAN)
    assert (trace.block_tokens, trace.span_s) == (16, 61.5)
    fit = fit_trace(trace, 8192)
    assert [ask.prompt_tokens for ask in fit.asks] == [100, 90]
    assert [[one.tokens for one in ask.prefixes] for ask in fit.asks] == [
        [16, 16, 16, 16, 16, 16, 4],
        [16, 16, 16, 16, 16, 10],
    ]


def test_a_cut_is_counted_from_the_first_row(tmp_path: Path) -> None:
    assert rows(read(tmp_path, BURSTGPT, "40:")) == [(0, 1087, 230), (73, 417, 276)]
    assert rows(read(tmp_path, BURSTGPT, ":41")) == [(0, 472, 18), (40, 1087, 230)]
    with pytest.raises(UserError, match=r"has 1 requests .*1 rows without, 2 outside the cut"):
        read(tmp_path, BURSTGPT, "40:50")


@pytest.mark.parametrize("text", ["5", "5:4", "a:b", "-1:", "3:3", "nan:"])
def test_a_malformed_cut_is_told(text: str) -> None:
    with pytest.raises(UserError, match=f"--traffic-cut '{text}' is not FROM:TO in seconds"):
        parse_cut(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no known format: its first line is ''; known are CSV with columns TIMESTAMP"),
        ("a,b,c\n1,2,3\n", "no known format: its first line is 'a,b,c'"),
        (
            AZURE + "2023-11-16 18:17:00,1\n",
            "line 5: cannot read '2023-11-16 18:17:00,1'",
        ),
        (AZURE + "yesterday,1,2\n", "line 5: cannot read 'yesterday,1,2'"),
        (AZURE + "20231116,1,2\n", "line 5: cannot read '20231116,1,2': '20231116' is not a date"),
        *((f"{AZURE}{at},1,2\n", "line 5: cannot read") for at in NO_TIMES),
        *((f"{BURSTGPT}{at},ChatGPT,1,2,3,x\n", "line 6: cannot read") for at in NO_TIMES),
        *((f"{BURSTGPT}200,ChatGPT,{n},2,3,x\n", "line 6: cannot read") for n in NO_TIMES),
        (BURSTGPT.replace("\n5,", "\nnan,"), "line 2: cannot read"),
        *((mooncake(timestamp=one), "line 3: cannot read") for one in NO_NUMBERS),
        (mooncake().replace("7777", "NaN"), "line 3: cannot read"),
        (mooncake(hash_ids=None), "line 3: cannot read"),
        (mooncake(hash_ids=["a1", "b2", "c3"]), "hash_ids is not a list of whole numbers"),
        (mooncake(hash_ids=[1, 2]), "2 hash_ids do not fit an input_length of 1030: in Mooncake"),
        (mooncake(input_length=1.5), "line 3: cannot read"),
        (mooncake(timestamp=7.5), "timestamp 7.5 is no whole number of milliseconds"),
        (BAILIAN.replace('"chat_id": 1, ', ""), "line 2: cannot read"),
        (AZURE + "2023-11-16 18:17:00,5,1,2\n", "it has 4 columns, the header 3"),
        (AZURE.replace("TIMESTAMP,", "TIMESTAMP,GeneratedTokens,"), "no known format"),
        (f"{BURSTGPT}9,{'x' * 200_000},1,2,3,x\n", "line 6: cannot read '9,x"),
        ("x" * 200_000, "has no known format: its first line is 'xxx"),
        (BAILIAN.replace("chat_id", "id"), "7 hash_ids do not fit an input_length of 100"),
        (BAILIAN + '{"chat_id": 3}', "line 3: cannot read '{\"chat_id\": 3}': it lacks timestamp"),
        (NO_HASH_IDS, "it lacks hash_ids, which Mooncake has in each line"),
        (AZURE + "2023-11-16 18:17:00,-1,2\n", "line 5: cannot read"),
        (BURSTGPT + "200,ChatGPT,1.5,2,3,x\n", "line 6: cannot read"),
        (MOONCAKE + '{"timestamp": 1}\n', "line 3: cannot read"),
        (MOONCAKE + "{\n", "line 3: cannot read '{'"),
        (AZURE.split("\n", maxsplit=1)[0], "has 0 requests with prompt and answer (0 rows without"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(
    text: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        read(tmp_path, text)


def test_a_file_that_is_no_text_or_not_there_is_told(tmp_path: Path) -> None:
    packed = tmp_path / "trace.gz"
    packed.write_bytes(b"\x1f\x8b\x08\xff\xfe")
    with pytest.raises(UserError, match="is not text in UTF-8; unpack it"):
        read_trace(packed)
    with pytest.raises(UserError, match=r"cannot read trace .*: No such file"):
        read_trace(tmp_path / "none")


def test_a_pipe_is_one_line(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, MOONCAKE.encode())
    os.close(writing)
    with pytest.raises(UserError, match=r"cannot read trace .*not seekable"):
        read_trace(Path(f"/dev/fd/{reading}"))
    os.close(reading)


# Real ones, where they are.


def real(name: str) -> Path:
    folders = [os.environ.get("TRACES"), Path(__file__).parents[3] / "shared" / "data"]
    found = [path for folder in folders if folder for path in Path(folder).rglob(name)]
    if not found:
        pytest.skip(f"no {name}: set TRACES to a folder that has it")
    return found[0]


def test_a_real_azure_trace_is_read_and_fitted() -> None:
    trace = read_trace(real("AzureLLMInferenceTrace_conv.csv"))
    assert len(trace.requests) == 19_366
    assert trace.span_s == pytest.approx(3501.72, abs=0.01)
    fit = fit_trace(trace, 2048, 256)
    prompts = np.array([ask.prompt_tokens for ask in fit.asks])
    originals = np.array([one.prompt_tokens for one in trace.requests])
    for share in (0.5, 0.9, 0.99):
        scaled = np.quantile(originals, share) * fit.factor
        assert np.quantile(prompts, share) == pytest.approx(scaled, rel=0.02)
    assert fit.shortened / len(prompts) < 0.01
    assert len(read_trace(real(trace.name), Cut(0, 600)).requests) < 19_366 / 4


def test_a_real_mooncake_trace_shares_as_many_tokens_as_it_did() -> None:
    path = real("conversation_trace.jsonl")
    trace = read_trace(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one.blocks for one in trace.requests] == [tuple(line["hash_ids"]) for line in lines]
    fit = fit_trace(trace, 8192)
    seen: set[int] = set()
    hits = total = scaled_hits = scaled_total = 0
    for one, ask in zip(trace.requests, fit.asks, strict=True):
        old = next((n for n, block in enumerate(one.blocks) if block not in seen), len(one.blocks))
        hits += min(512 * old, one.prompt_tokens)
        total += one.prompt_tokens
        scaled_hits += sum(prefix.tokens for prefix in ask.prefixes[:old])
        scaled_total += sum(prefix.tokens for prefix in ask.prefixes)
        seen.update(one.blocks)
    assert scaled_hits / scaled_total == pytest.approx(hits / total, rel=0.02)
