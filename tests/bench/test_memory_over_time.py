"""Memory of GPUs through a trial: read beside the engines, stored, judged and shown."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.judge import judge
from bench.analysis.memory import memory_use
from bench.config.topology import Arm
from bench.drivers.builtin import BuiltinDriver
from bench.environments.kvcached.collecting import Console
from bench.environments.kvcached.memory import MemoryWatch, read_rows, watching
from bench.errors import UserError
from bench.processes.local import LocalProgram
from bench.records import MemoryReading, MemorySeries, Trial
from bench.store import TrialStore
from bench.store.results import results_json
from tests.bench.consoles import DATA, GPU, console, programs, started_with
from tests.bench.experimenting import SITE, Served, experiment, question, replica
from tests.bench.making import paired, trial

KVCTL = (DATA / "kvctl.json").read_text(encoding="utf-8")


def never(command: object) -> str:
    raise AssertionError(f"{command} is run")


def watched(*consoles: Console) -> tuple[MemorySeries, ...]:
    with watching(consoles) as watch:
        start_s = time.monotonic()
    return watch.since(start_s)


def test_memory_is_read_from_before_the_load_by_a_program_that_ends(tmp_path: Path) -> None:
    used = json.loads(KVCTL)
    used[0]["used_bytes"] = 3 * 2**30
    folder = programs(tmp_path, GPU * 2, json.dumps(used))
    one = console(never, start=started_with(folder))
    other = replace(one, engine="qwen-0", ipc="qwen_0")
    foreign = replace(one, engine="mistral-0", ipc="mistral_0")
    (series,) = watched(one, other, foreign)
    assert series.place == "gpu-0"
    first = series.readings[0]
    assert first.at_s <= 0
    assert (first.used_gib, first.error) == (90.0, None)
    assert first.kv_gib == {"llama-0": 3.0, "qwen-0": 0.0}
    assert not [one for one in psutil.Process().children() if "nvidia-smi" in one.cmdline()]


def test_engines_without_kvcached_have_the_memory_of_their_gpus_alone(tmp_path: Path) -> None:
    (series,) = watched(console(never, start=started_with(programs(tmp_path))))
    assert [(one.used_gib, one.kv_gib) for one in series.readings[:1]] == [(45.0, {})]


def test_what_cannot_be_read_is_said_and_no_error(tmp_path: Path) -> None:
    folder = programs(tmp_path, "No devices were found\n", KVCTL)
    blind = console(never, start=started_with(folder))
    absent = replace(console(never), place="gpu-1")
    silent = replace(blind, place="gpu-2", start=lambda command: LocalProgram(["echo", "hello"]))
    dead = replace(blind, place="gpu-3", start=lambda command: LocalProgram(["false"]))
    series = watched(blind, absent, silent, dead)
    assert [one.place for one in series] == ["gpu-0", "gpu-1", "gpu-2", "gpu-3"]
    reasons = [one.readings[0].error for one in series]
    assert reasons[0] == (
        "nvidia-smi writes 'No devices were found' in place of the memory of GPUs"
    )
    assert reasons[1] == "env is not there"
    assert reasons[2] is not None
    assert "where its time was due" in reasons[2]
    assert reasons[3] == "it ended with 1 and said nothing"
    assert all(one.readings[0].used_gib is None for one in series)


row = st.tuples(
    st.floats(0, 1e6),
    st.integers(0, 10**6).map(lambda mib: f"GPU-1, NVIDIA H100, {mib}, 1000000"),
    st.integers(0, 2**40).map(
        lambda used: json.dumps([{"ipc": "a", "limit_bytes": 1, "used_bytes": used}])
    ),
)


@given(st.lists(row, max_size=5), st.floats(-1e6, 1e6))
def test_rows_are_read_as_they_were_written(
    rows: list[tuple[float, str, str]], ahead: float
) -> None:
    found = read_rows(json.dumps(rows).encode(), {"a": "engine"}, ahead)
    assert [one.at_s for one in found] == [at_s - ahead for at_s, _, _ in rows]
    for one, (_, gpus, kv) in zip(found, rows, strict=True):
        assert one.used_gib == int(gpus.split(", ")[2]) / 1024
        assert one.kv_gib == {"engine": json.loads(kv)[0]["used_bytes"] / 2**30}


@given(st.binary() | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps))
def test_any_other_text_is_a_line_or_a_reading_with_an_error(text: bytes | str) -> None:
    line = text if isinstance(text, bytes) else text.encode()
    with suppress(UserError):
        assert all(one.error for one in read_rows(line, {"a": "engine"}, 0.0))


def reading(at_s: float, used_gib: float | None, **kv_gib: float) -> MemoryReading:
    return MemoryReading(at_s, used_gib, kv_gib, None if used_gib else "nvidia-smi failed")


def with_memory(one: Trial, *series: MemorySeries) -> Trial:
    return replace(one, memory=series)


GPU_0 = MemorySeries(
    "gpu-0", (reading(-2, 20.0, a=1.0), reading(-1, 30.0), reading(1, 60.0, a=9.0))
)
GPU_1 = MemorySeries("gpu-1", (reading(-1, 10.0, b=0.0), reading(1, None), reading(2, 12.0, b=2.0)))


def test_idle_is_what_is_taken_before_the_load_and_most_what_is_taken_at_most() -> None:
    bare = trial("control", 0, 0, ())
    assert memory_use([bare]) is None
    use = memory_use([with_memory(bare, GPU_0, GPU_1), with_memory(bare, GPU_0), bare])
    assert use is not None
    assert (use.idle_gib, use.most_gib) == ((30 + 10 + 30) / 2, 60 + 12)
    assert use.kv_most_gib == {"a": 9.0, "b": 2.0}
    assert (use.readings, use.failed, use.error) == (9, 1, "nvidia-smi failed")
    late = replace(GPU_0, readings=GPU_0.readings[2:])
    use = memory_use([with_memory(bare, late)])
    assert use is not None
    assert (use.idle_gib, use.most_gib) == (None, 60.0)


def test_it_is_in_the_results_and_its_failures_in_the_notes_where_it_was_read() -> None:
    trials = paired((0.2,) * 4, (0.1,) * 4)
    bare = judge(trials)
    assert not bare.memory
    read = judge([with_memory(one, GPU_0, GPU_1) for one in trials])
    assert [one.role for one in read.memory] == ["control", "treatment"]
    (note, _) = [line for line in read.notes if line not in bare.notes]
    assert note == ("control baseline: 8 of 48 readings of GPU memory failed (nvidia-smi failed)")
    of_bare, of_read = (
        json.loads(results_json(Path("x"), [one], {}))["scenarios"][0] for one in (bare, read)
    )
    assert "memory" not in of_bare
    assert of_read["memory"][0]["idle_gib"] == 40.0


def test_a_stored_trial_has_it_and_one_without_is_stored_as_before(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    bare = trial("control", 0, 0, ())
    path = store.save(bare)
    assert "memory" not in json.loads(path.read_text(encoding="utf-8"))
    assert store.load(path) == bare
    one = with_memory(bare, GPU_0, GPU_1)
    assert store.load(store.save(one)) == one


class OnGpus(Served):
    """An environment whose engine has a GPU."""

    consoles: tuple[Console, ...] = ()

    def memory(self, arm: Arm) -> AbstractContextManager[MemoryWatch]:
        return watching(self.consoles)


def test_a_trial_has_the_memory_of_its_time_and_none_without_gpus(tmp_path: Path) -> None:
    folder = programs(tmp_path, segments=KVCTL)
    with replica() as url:
        environment = OnGpus(url, ())
        environment.consoles = (console(never, start=started_with(folder)),)
        measured = experiment(environment, BuiltinDriver(SITE), tmp_path / "gpu")
        bare = experiment(Served(url, ()), BuiltinDriver(SITE), tmp_path / "cpu")
        for each in (measured, bare):
            each.run(question())
    for one in measured.context.store.load_run():
        (series,) = one.memory
        assert series.readings[0].at_s <= 0
        assert (use := memory_use([one])) is not None
        assert use.idle_gib == 45.0
    assert not any(one.memory for one in bare.context.store.load_run())
