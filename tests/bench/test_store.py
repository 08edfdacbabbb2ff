import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.analysis.judge import judge
from bench.errors import UserError
from bench.records import (
    Accuracy,
    ErrorKind,
    Instrument,
    Sample,
    ServerReading,
    ServerSeries,
    Slo,
    Spread,
    Trial,
)
from bench.store import NoiseStore, TrialStore, by_scenario
from bench.store.trials import digest
from tests.bench.making import FACTS, REPLICAS, paired, trial

BASE = (0.50, 0.52, 0.48, 0.51)
STORED = Path(__file__).parents[1] / "data" / "stored"
OLD = sorted(one for one in STORED.iterdir() if one.is_dir())
HALF = tuple(ttft_s / 2 for ttft_s in BASE)

number = st.floats(allow_nan=False, allow_infinity=False)
maybe_number = st.one_of(st.none(), number)
count = st.integers(0, 2**40)
spread = st.builds(Spread, number, number, number, number, count)
samples = st.builds(
    Sample,
    index=count,
    model=st.text(),
    scheduled_s=number,
    sent_s=maybe_number,
    first_token_s=maybe_number,
    last_token_s=maybe_number,
    chunk_s=st.lists(number, max_size=5).map(tuple),
    wanted_prompt_tokens=count,
    wanted_output_tokens=count,
    prompt_tokens=st.one_of(st.none(), count),
    output_tokens=st.one_of(st.none(), count),
    replica=st.one_of(st.none(), st.text()),
    status=st.one_of(st.none(), st.integers(100, 599)),
    error=st.one_of(st.none(), st.sampled_from(ErrorKind)),
    detail=st.one_of(st.none(), st.text()),
)
server_readings = st.builds(
    ServerReading,
    due_s=number,
    at_s=number,
    running=maybe_number,
    kv_cache_usage=maybe_number,
    finished=maybe_number,
    error=st.one_of(st.none(), st.text()),
)
server_series = st.builds(
    ServerSeries, st.text(), st.lists(server_readings, min_size=1, max_size=3).map(tuple)
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), number, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)
objective = st.one_of(st.none(), st.floats(0.001, 100))
trials = st.builds(
    trial,
    role=st.sampled_from(["control", "treatment"]),
    block=st.integers(0, 120),
    position=st.integers(0, 3),
    samples=st.lists(samples, max_size=5),
    seed=st.integers(0, 2**63),
    offered_rps=maybe_number,
    concurrency=st.one_of(st.none(), count),
    duration_s=number,
    elapsed_s=number,
    scenario=st.builds(
        replace,
        st.just(FACTS),
        slos=st.dictionaries(
            st.text(), st.builds(Slo, ttft_s=objective, tpot_s=objective, e2e_s=objective)
        ),
        description=st.text(),
        alpha=number,
    ),
    instrument=st.builds(
        Instrument,
        number,
        number,
        number,
        maybe_number,
        maybe_number,
        st.one_of(st.none(), st.builds(Accuracy, count, spread, spread, spread)),
    ),
    bypassed=st.lists(samples, max_size=3).map(tuple),
    server=st.lists(server_series, max_size=3, unique_by=lambda one: one.replica).map(tuple),
    replicas=st.sampled_from([(), REPLICAS]),
    dead_replicas=st.lists(st.text(), max_size=2).map(tuple),
    cut_short=st.booleans(),
    provenance=st.dictionaries(st.text(), json_values, max_size=3),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trials)
def test_a_trial_comes_back_exactly_as_it_was_saved(store: TrialStore, made: Trial) -> None:
    assert store.load(store.save(made)) == made


def test_a_trial_without_requests_comes_back(store: TrialStore) -> None:
    empty = trial("control", 0, 0, [])
    assert store.load(store.save(empty)) == empty


def test_a_trial_stored_before_requests_could_bypass_an_arm_is_readable(
    store: TrialStore, one: Trial
) -> None:
    path = store.save(one)
    table = pq.read_table(path.with_suffix(".parquet")).drop_columns(["bypassed"])
    pq.write_table(table, path.with_suffix(".parquet"))
    written = json.loads(path.read_text())
    written["samples_sha256"] = digest(path.with_suffix(".parquet").read_bytes())
    path.write_text(json.dumps(written))
    assert store.load(path) == one


def test_a_trial_stored_before_servers_were_scraped_is_readable(
    store: TrialStore, one: Trial
) -> None:
    path = store.save(one)
    path.with_suffix(".server.parquet").unlink()
    written = json.loads(path.read_text())
    del written["server_sha256"]
    path.write_text(json.dumps(written))
    assert store.load(path) == one


def test_readings_of_another_trial_are_refused(store: TrialStore, one: Trial) -> None:
    series = ServerSeries("tiny-llama-0", (ServerReading(0.0, 0.1, waiting=3.0),))
    path, other = store.save(one), store.save(replace(one, position=3, server=(series,)))
    theirs = other.with_suffix(".server.parquet").read_bytes()
    path.with_suffix(".server.parquet").write_bytes(theirs)
    with pytest.raises(UserError, match=r"server\.parquet is damaged"):
        store.load(path)


def test_the_path_says_what_a_trial_is(store: TrialStore, tmp_path: Path) -> None:
    path = store.save(trial("treatment", 3, 2, [], models=("tiny-llama", "tiny-qwen")))
    assert path.relative_to(tmp_path) == Path(
        "results/managed/local/20260131-235959-a1b2/heavy-tail/tiny-llama+tiny-qwen"
        "/block-03-2-treatment.json"
    )
    assert path.with_suffix(".parquet").exists()


def test_stored_trials_give_the_same_judgement_as_live_ones(store: TrialStore) -> None:
    live = paired(BASE, HALF)
    for made in live:
        store.save(made)
    assert judge(store.load_run()) == judge(live)


def test_an_arm_against_itself_keeps_both_roles_apart(store: TrialStore) -> None:
    live = [replace(made, arm="baseline") for made in paired(BASE, BASE)]
    for made in live:
        store.save(made)
    assert store.load_run() == live


def test_the_latest_run_is_read_unless_one_is_named(store: TrialStore, one: Trial) -> None:
    older = replace(one, run_id="20250101-000000-ffff")
    store.save(one)
    store.save(older)
    assert store.load_run() == [one]
    assert store.load_run("20250101-000000-ffff") == [older]


@pytest.mark.parametrize("folder", OLD, ids=lambda folder: folder.name)
def test_trials_of_an_older_version_are_read_and_judged(folder: Path) -> None:
    made = TrialStore(folder).load_run()
    assert [one.role for one in made] == ["control", "treatment"]
    for one, ttft_s in zip(made, (0.5, 0.25), strict=True):
        values = {found.metric: found.value for found in judge([one]).summaries}
        assert values[FACTS.primary] == pytest.approx(ttft_s)


def test_noise_of_an_older_version_is_known() -> None:
    (path,) = STORED.glob("*/noise.json")
    assert NoiseStore(path).known("kind") == [(0.25, 4)]


def test_the_name_of_the_latest_run_is_known(store: TrialStore, one: Trial) -> None:
    assert store.latest_run() == ""
    store.save(replace(one, run_id="20250101-000000-ffff"))
    store.save(one)
    assert store.latest_run() == one.run_id


def test_an_unknown_run_is_refused_with_the_closest_one(store: TrialStore, one: Trial) -> None:
    store.save(one)
    with pytest.raises(UserError, match="'20260131-235959-a1b2'"):
        store.load_run("20260131-235959-a1b3")


def test_an_empty_store_is_refused(store: TrialStore) -> None:
    with pytest.raises(UserError, match="no stored trials"):
        store.load_run()


def test_trials_are_grouped_by_scenario_models_and_round(one: Trial) -> None:
    other = replace(one, models=("tiny-qwen",))
    groups = by_scenario([one, other, replace(one, block=1), replace(one, round=2)])
    assert {key: len(members) for key, members in groups.items()} == {
        ("heavy-tail", ("tiny-llama",), 1): 2,
        ("heavy-tail", ("tiny-llama",), 2): 1,
        ("heavy-tail", ("tiny-qwen",), 1): 1,
    }


def test_a_second_round_does_not_overwrite_the_first(store: TrialStore, one: Trial) -> None:
    again = replace(one, round=2)
    store.save(one)
    store.save(again)
    assert store.load_run() == [one, again]


def test_samples_without_facts_are_no_trial(store: TrialStore, one: Trial) -> None:
    store.save(one)
    store.save(replace(one, position=3)).unlink()
    assert store.load_run() == [one]


def test_models_are_stored_under_whatever_name_an_endpoint_gives_them(
    store: TrialStore, one: Trial, tmp_path: Path
) -> None:
    named = [replace(one, models=(name,)) for name in ("a/b", "a-b", "a+b", "a b", "ä:1", "a%2Fb")]
    for each in named:
        store.save(each)
    found = store.load_run(one.run_id)
    assert {each.models for each in found} == {each.models for each in named}
    assert all(path.is_relative_to(tmp_path) for path in tmp_path.rglob("*.json"))


def test_reading_starts_no_pool_of_threads(tmp_path: Path) -> None:
    # Arrow's pools abort the process at its end now and then, after all is done.
    TrialStore(tmp_path).save(paired(BASE, HALF)[0])
    counts = """
import sys
from pathlib import Path
from bench.store import TrialStore

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

before = threads()
TrialStore(Path(sys.argv[1])).load_run()
print(threads() - before)
"""
    run = [sys.executable, "-c", counts, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 0
