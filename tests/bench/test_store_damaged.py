"""Stored trials that are damaged, and what cannot be stored."""

import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.records import Trial
from bench.store import TrialStore, write_latest
from tests.bench.making import answered, failed, trial


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_file_that_is_cut_off_is_named(
    store: TrialStore, one: Trial, suffix: str, keep: int
) -> None:
    path = store.save(one)
    damaged = path.with_suffix(suffix)
    # The last byte of the JSON is only a line end.
    damaged.write_bytes(damaged.read_bytes().rstrip()[:keep])
    with pytest.raises(UserError, match=f"{damaged.name} is damaged"):
        store.load(path)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a": ' * 100_000, '{"seed": ' + "9" * 5000, '{"elapsed_s": NaN}'],
)
def test_facts_that_nobody_wrote_so_are_damaged(store: TrialStore, one: Trial, text: str) -> None:
    path = store.save(one)
    path.write_text(text)
    with pytest.raises(UserError, match="is damaged") as caught:
        store.load(path)
    assert "\n" not in str(caught.value)


def test_facts_without_their_samples_are_named(store: TrialStore, one: Trial) -> None:
    path = store.save(one)
    path.with_suffix(".parquet").unlink()
    with pytest.raises(UserError, match=r"cannot read .*block-00-0-control\.parquet"):
        store.load(path)


def test_samples_of_another_trial_are_refused(store: TrialStore, one: Trial) -> None:
    path = store.save(one)
    other = store.save(replace(one, position=3, samples=(failed(9),)))
    path.with_suffix(".parquet").write_bytes(other.with_suffix(".parquet").read_bytes())
    with pytest.raises(UserError, match="is damaged"):
        store.load(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 99}', "null"])
def test_json_of_another_kind_is_refused(store: TrialStore, one: Trial, text: str) -> None:
    path = store.save(one)
    path.write_text(text)
    with pytest.raises(UserError, match="is no trial in format 1"):
        store.load(path)


@pytest.mark.parametrize("change", [{"role": "judge"}, {"seed": "x"}, {"scenario": None}])
def test_facts_of_another_shape_are_refused_in_one_line(
    store: TrialStore, one: Trial, change: dict[str, Any]
) -> None:
    path = store.save(one)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="does not hold a trial") as caught:
        store.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "a\\b", "a b", "-x", "a+b", "ä\0"])
@pytest.mark.parametrize("field", ["arm", "environment", "run_id"])
def test_names_that_are_no_safe_folder_are_refused(
    store: TrialStore, one: Trial, tmp_path: Path, field: str, name: str
) -> None:
    change: dict[str, Any] = {field: name}
    with pytest.raises(UserError, match="cannot be a folder"):
        store.save(replace(one, **change))
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "-x"])
def test_models_with_a_name_that_leads_elsewhere_are_refused(
    store: TrialStore, one: Trial, name: str
) -> None:
    with pytest.raises(UserError, match="cannot be a folder"):
        store.save(replace(one, models=("a", name)))


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_facts_that_are_no_finite_number_are_refused(
    store: TrialStore, one: Trial, odd: float
) -> None:
    with pytest.raises(UserError, match="cannot write"):
        store.save(replace(one, elapsed_s=odd))


@contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """Let the system refuse to write more than `limit` bytes to any file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_leaves_no_half_trial(store: TrialStore, tmp_path: Path) -> None:
    big = trial("control", 0, 0, [answered(index, 0.5 + index / 7) for index in range(2000)])
    with largest_file(4096), pytest.raises(UserError, match=r"cannot write .*\.parquet"):
        store.save(big)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_keeps_whole_trials_and_is_told(small_disk: Path) -> None:
    store, saved = TrialStore(small_disk), []

    def save_on_and_on() -> None:
        for block in range(100):
            samples = [answered(index, 0.5 + index / 7) for index in range(500)]
            store.save(trial("control", block, 0, samples))
            saved.append(block)

    with pytest.raises(UserError, match=r"cannot write .*: No space left on device; free some"):
        save_on_and_on()
    assert saved
    assert [one.block for one in store.load_run()] == saved


def test_a_refused_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    write_latest(path, [], {"run_id": "first"})
    before = path.read_bytes()
    with largest_file(512), pytest.raises(UserError, match="cannot write"):
        write_latest(path, [], {"run_id": "x" * 4096})
    assert path.read_bytes() == before


def test_results_that_cannot_have_a_folder_are_refused(tmp_path: Path, one: Trial) -> None:
    (tmp_path / "results").write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot write"):
        TrialStore(tmp_path / "results").save(one)
