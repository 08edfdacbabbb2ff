"""Whatever is in a file, or is answered: it is read, or one line says what is wrong with it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.drivers.artifacts.reading import read_runs
from bench.errors import UserError
from bench.load.client.sse import EventReader
from tests.bench.damaged_formats import FORMATS, RESULTS, read_or_refuse
from tests.fuzzing import damaged

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_copy_is_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = FORMATS[name]
    folder = tmp_path_factory.getbasetemp() / "damaged"
    read_or_refuse(name, data.draw(damaged(one.sample, of_json=one.of_json)), folder)


def changed(name: str, *edits: tuple[str, str]) -> bytes:
    text = FORMATS[name].sample.decode()
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    return text.encode()


DETAILED = next(name for name in FORMATS if "/detailed/A/1/" in name)
FOUND = {
    "chunks at no time": (DETAILED, '"itls": [[', '"itls": [[Infinity, -Infinity, '),
    "a time that is too large": (
        "records of genai-perf",
        '"timestamp": 1795442434000000000',
        f'"timestamp": {10**400}',
    ),
    "a time beyond all": ("holder of the machine", "61.5", f"1{'0' * 400}"),
    "details that are none": ("end of a command", '{"causes"', '["a"], "x": {"causes"'),
    "a cause that is none": ("end of a command", '[{"reason"', '["a", {"reason"'),
    "a code that is no number": ("end of a command", '"3"', '"\\u00b2"'),
    "a tokenizer without its unknown token": ("tokenizer", '"?": 0, "a": 1, ', ""),
    "runs of a kind of earlier times": ("ledger", '"kind": "aa"', '"kind": "a"'),
    "blocks beyond all": ("ledger", '"blocks": 8', f'"blocks": {10**400}'),
    "objectives of no model": ("facts of a trial", '"tiny-llama": {', '"other": {'),
    "a block beyond all": ("facts of a trial", '"block": 0', f'"block": {10**300}'),
    "an error rate of nearly 0": ("facts of a trial", '"alpha": 0.01', '"alpha": 5e-324'),
    "more memory than can be": ("kvctl", "77309411328", "1e999"),
    "memory in too many digits": ("nvidia-smi", "81559", "9" * 400),
    "a balancer of another kind": ("health of a balancer", '[{"url"', '3, "x": [{"url"'),
    "a count that is too large": ("metrics", "1.0\n", "1.7e308\n"),
    "tokens that are too many": (
        "body of an answer",
        '"completion_tokens":3',
        f'"completion_tokens":{2**64 - 1}',
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found(what: str, tmp_path: Path) -> None:
    name, before, after = FOUND[what]
    read_or_refuse(name, changed(name, (before, after)), tmp_path / "found")


DEEP = ("kvctl", "tokens", "health of a balancer", "models of an engine", "facts of a trial")


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_nested_too_deeply(name: str, data: bytes, tmp_path: Path) -> None:
    read_or_refuse(name, data, tmp_path / "found")


def test_no_parquet_is_refused(tmp_path: Path) -> None:
    name = "samples of a trial"
    for at in range(0, len(FORMATS[name].sample), 400):
        data = bytearray(FORMATS[name].sample)
        data[at] ^= 0xFF
        read_or_refuse(name, bytes(data), tmp_path / "found")


LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{index}: &a{index} [{', '.join([f'*a{index - 1}'] * 10)}]" for index in range(1, 10)]
)


@pytest.mark.parametrize("text", [f"{LAUGHS}\nmodels: *a9\n", "models: &m\n  a: *m\n"])
@pytest.mark.parametrize("name", ["topology", "objectives", "endpoints"])
def test_aliases_make_no_value_that_is_larger_than_memory(
    name: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="aliases make"):
        FORMATS[name].read(text.encode(), tmp_path)


def test_nor_do_they_in_a_result(tmp_path: Path) -> None:
    report = next(RESULTS.glob("llmd*/from-guidellm*.yaml")).read_text()
    path = tmp_path / "report.yaml"
    path.write_text(f"{LAUGHS}\n{report.replace('units: s', 'units: *a9')}")
    with pytest.raises(UserError, match="aliases make"):
        read_runs(path)


def cpu_s_of_line(pieces: int) -> float:
    """The CPU time in which so many pieces of one line are read, the least of several."""

    def once() -> float:
        reader, began_s = EventReader(), time.process_time()
        for _ in range(pieces):
            reader.feed(b"x" * 1448)
        return time.process_time() - began_s

    return min(once() for _ in range(5))


def test_a_line_without_end_takes_time_by_its_length() -> None:
    # By its length it is 8 times as much, by the square of its length 64 times.
    assert cpu_s_of_line(1600) < 30 * cpu_s_of_line(200)
