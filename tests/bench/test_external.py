"""Environment external: from endpoints to arms, loads and limits. No server here is an engine."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.config import Config, resolve
from bench.config.options import Options
from bench.environments.external.environment import ExternalEnvironment, make_environment
from bench.errors import UserError
from bench.experiment.budget import LARGE_REQUESTS, Amount, Budget
from bench.experiment.capacity import EngineCalibration
from bench.experiment.scenario import Question, Scenario
from bench.experiment.suitability import why_not
from bench.experiment.trial_order import Grid, PlannedTrial
from bench.load.plan.arrivals import ClosedLoop, Poisson
from bench.load.plan.prompts import WordPrompts
from bench.load.plan.workload import Fixed, Workload
from bench.processes.local import LocalSite
from bench.processes.ports import free_ports
from bench.progress import PlainProgress
from bench.records import Expectation
from tests.bench.endpoint import MODEL, Behaviour, endpoint
from tests.bench.making import answered

OPEN = Scenario(
    name="latency",
    description="",
    arrival=Poisson(load=0.5),
    workload=Workload(prompt=Fixed(40), output=Fixed(4)),
    primary="scheduled_ttft_p50_s",
    expect=Expectation.NOT_WORSE,
)
CLOSED = replace(OPEN, name="heavy-tail", arrival=ClosedLoop(per_sequence=1))
BOTH = ("control=http://a:1", "treatment=http://b:1")
KEY_FILE = "--upstream-api-key-file"
ASKED = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "a"}],
    "max_tokens": 2,
    "stream": True,
}
TRIAL = PlannedTrial(0, 0, "control")


def resolved(tmp_path: Path, **options: Any) -> Config:
    options = {"models": (MODEL,), **options}
    return resolve(Options(env="external", **options), tmp_path, "run")


def environment(config: Config, said: io.StringIO | None = None) -> ExternalEnvironment:
    return make_environment(config, PlainProgress(said or io.StringIO()))


def calibration(config: Config, of: ExternalEnvironment) -> EngineCalibration:
    return EngineCalibration(
        site=LocalSite(),
        targets=lambda: of.targets(config.arms),
        tokenizers={MODEL: of.tokenizer_folder(MODEL)},
        max_num_seqs=config.max_num_seqs,
        window_s=0.2,
        drain_s=20.0,
        run_id="run",
        seed=1,
        progress=PlainProgress(io.StringIO()),
    )


def question(scenario: Scenario, **load: Any) -> Question:
    return Question(scenario, scenario.facts({}), (MODEL,), **load)


def test_both_endpoints_are_asked_and_get_requests_that_both_take(tmp_path: Path) -> None:
    one, other = Behaviour(), Behaviour(unknown=("ignore_eos",), text="three")
    said = io.StringIO()
    with endpoint(one) as a, endpoint(other) as b:
        config = resolved(tmp_path, url=(f"control={a}/v1", f"treatment={b}/v1"))
        used = environment(config, said)
        assert used.start(config.models) == ()
        arms = config.arms
        assert used.arm_routes(arms["treatment"], 1, [MODEL]) == {MODEL: (b,)}
        assert {role: used.api(arm).exact_answers for role, arm in arms.items()} == {
            "control": False,
            "treatment": False,
        }
        assert used.api(arms["control"]).fields == {"min_tokens": None, "ignore_eos": None}
        assert [(one.name, one.url) for one in used.targets(arms)] == [
            (arms["control"].name, a),
            (arms["treatment"].name, b),
        ]
        facts = used.facts()
        used.stop()
    assert "an endpoint is on this machine: if it is a proxy" in said.getvalue()
    assert facts["endpoints"] == {arms["control"].name: a, arms["treatment"].name: b}
    assert "answer the same prompt differently" in said.getvalue()
    assert len(facts["round_trips"]) == 1


def test_prompts_for_an_unknown_tokenizer_have_about_the_length_by_the_servers_count(
    tmp_path: Path,
) -> None:
    with endpoint(Behaviour()) as url:
        config = resolved(tmp_path, url=(f"control={url}", f"treatment={url}"))
        used = environment(config)
        used.start(config.models)
        made = calibration(config, used)
        asked = question(OPEN, rate_rps=10.0)
        warm = made.warm(OPEN.workload, (MODEL,), None)
        schedule = asked.schedule(TRIAL, 1, warm, 1.0)
        prompts = made.prompts(schedule, "trial")
    # The server counts 5 + 2 a word.
    assert {5 + 2 * len(text.split()) for text in prompts} <= {39, 41}
    assert len(set(prompts)) == len(prompts) == 10
    assert not made.makes_exact((MODEL,))
    assert made.budget.sent.requests == 2 + 16


def test_processes_of_this_machine_that_serve_are_not_foreign(tmp_path: Path) -> None:
    with endpoint(Behaviour()) as url:
        here = environment(resolved(tmp_path, url=(f"control={url}", f"treatment={url}")))
        assert len(here.processes()) == 1
    assert environment(resolved(tmp_path, url=BOTH)).processes() == ()
    file = tmp_path / "endpoints.yaml"
    with endpoint(Behaviour()) as url:
        control = f"{{url: 'http://a:1', replicas: {{m: ['{url}']}}}}"
        file.write_text(
            f"models: {{m: }}\narms: {{control: {control}, treatment: {{url: 'http://b:1'}}}}"
        )
        behind = environment(resolved(tmp_path, endpoints=str(file), models=()))
        assert len(behind.processes()) == 1


def test_replicas_that_are_listed_are_not_asked_for(tmp_path: Path) -> None:
    file, said = tmp_path / "endpoints.yaml", io.StringIO()
    with endpoint(Behaviour()) as url:
        arm = f"{{url: '{url}', replicas: {{{MODEL}: ['{url}']}}}}"
        file.write_text(f"models: {{{MODEL}: }}\narms: {{control: {arm}, treatment: {arm}}}")
        used = environment(resolved(tmp_path, endpoints=str(file), models=()), said)
        used.start(resolved(tmp_path, endpoints=str(file), models=()).models)
        used.stop()
    assert "asking the endpoints" in said.getvalue()
    assert "is on this machine" not in said.getvalue()


def test_balancers_get_the_key_of_replicas_by_no_file_on_disk(tmp_path: Path) -> None:
    file, served = tmp_path / "endpoints.yaml", Behaviour(key="the-key")
    (tmp_path / "key").write_text("the-key")
    with endpoint(served) as url:
        file.write_text(
            f"models: {{{MODEL}: }}\n"
            f"balanced: {{api_key_file: {tmp_path / 'key'}, replicas: {{{MODEL}: ['{url}']}}}}"
        )
        config = resolved(tmp_path, endpoints=str(file), models=())
        used = environment(config)
        try:
            used.start(config.models)
            arm = replace(config.arms["treatment"], port=next(free_ports(28100, reserved=())))
            (base,) = used.arm_routes(arm, 1, [MODEL])[MODEL]
            answer = httpx.post(f"{base}/v1/chat/completions", json=ASKED, trust_env=False)
            balancers = psutil.Process().children(recursive=True)
            typed = [word for one in balancers for word in one.cmdline()]
        finally:
            used.stop()
    assert answer.status_code == 200
    (path,) = {after for word, after in itertools.pairwise(typed) if word == KEY_FILE}
    assert not Path(path).exists()
    assert "the-key" not in " ".join(typed)


@given(words=st.integers(1, 400), per_word=st.floats(0.5, 5), overhead=st.integers(0, 60))
def test_words_fit_what_a_server_counts(words: int, per_word: float, overhead: int) -> None:
    def count(n: int) -> int:
        return round(overhead + n * per_word)

    maker = WordPrompts.fit((16, count(16)), (116, count(116)))
    made = len(maker.make(count(words), 1, "trial").split())
    assert abs(made - words) <= 1 + 0.05 * words + 1 / per_word


def test_prompts_of_two_trials_differ_and_share_their_prefixes() -> None:
    maker = WordPrompts()
    assert maker.make(50, 1, "a") == maker.make(50, 1, "a") != maker.make(50, 1, "b")


def test_a_load_that_is_given_does_not_relate_to_capacity(tmp_path: Path) -> None:
    with endpoint(Behaviour()) as url:
        config = resolved(tmp_path, url=(f"control={url}", f"treatment={url}"))
        used = environment(config)
        used.start(config.models)
        warm = calibration(config, used).warm(OPEN.workload, (MODEL,), 2)
    given = question(OPEN, rate_rps=7.0)
    assert given.fixed_load
    assert given.schedule(TRIAL, 1, warm, 2.0).offered_rps == 7.0
    closed = question(CLOSED, concurrency=3)
    assert closed.fixed_load
    assert closed.schedule(TRIAL, 1, warm, 2.0).concurrency == 3
    assert not question(CLOSED, rate_rps=7.0).fixed_load
    assert "7 requests/s" in given.with_load(warm).facts.description
    assert "3 in flight" in closed.with_load(warm).facts.description


def test_without_a_load_it_relates_to_the_pace_of_the_slower_endpoint(tmp_path: Path) -> None:
    slow, fast = Behaviour(delay_s=0.1), Behaviour()
    with endpoint(slow) as a, endpoint(fast) as b:
        config = resolved(tmp_path, url=(f"control={a}", f"treatment={b}"))
        used = environment(config)
        used.start(config.models)
        assert config.in_flight == 8
        warm = calibration(config, used).warm(OPEN.workload, (MODEL,), config.in_flight)
    # Eight at once take a tenth of a second at least, on any machine.
    assert 0 < warm.rps <= 80
    assert warm.requests_for(1.0, 8) >= 8 + 3 * warm.most_rps > 3 * warm.rps
    asked = question(OPEN, concurrency=config.in_flight, measures_capacity=False)
    assert not asked.fixed_load
    assert asked.schedule(TRIAL, 1, warm, 2.0).offered_rps == pytest.approx(warm.rps / 2)
    assert "the pace with 8 in flight" in asked.with_load(warm).facts.description


@pytest.mark.parametrize(
    ("scenario", "options", "said"),
    [
        (OPEN, {"rate": 5.0}, None),
        (OPEN, {"concurrency": 5}, None),
        (CLOSED, {"concurrency": 5}, None),
        (CLOSED, {"rate": 5.0}, None),
        (OPEN, {}, None),
        (replace(OPEN, search=Grid()), {"rate": 5.0}, "which --rate fixes"),
        (replace(OPEN, search=Grid()), {}, "not measured at endpoints"),
        (replace(OPEN, slowed=0.5), {"rate": 5.0}, "cannot be done to an endpoint"),
        (replace(OPEN, balancers=2), {"rate": 5.0}, "give replicas with --endpoints"),
        (replace(OPEN, bypass=0.1), {"rate": 5.0}, "list them in a file for --endpoints"),
    ],
)
def test_a_scenario_that_makes_no_sense_says_why(
    tmp_path: Path, scenario: Scenario, options: dict[str, object], said: str | None
) -> None:
    reason = why_not(scenario, resolved(tmp_path, url=BOTH, **options))
    assert reason == said if said is None else said in (reason or "")


def test_all_scenarios_suit_engines_of_ones_own(tmp_path: Path) -> None:
    config = resolve(Options(), tmp_path, "run")
    for scenario in (OPEN, CLOSED, replace(OPEN, search=Grid()), replace(OPEN, slowed=0.5)):
        assert why_not(scenario, config) is None
    with_rate = resolve(Options(rate=5.0), tmp_path, "run")
    assert why_not(CLOSED, with_rate) is None
    assert "--rate fixes" in (why_not(replace(OPEN, search=Grid()), with_rate) or "")


@pytest.mark.parametrize(
    ("arms", "suits"),
    [
        (("baseline", "queue-aware"), False),
        (("baseline", "managed"), True),
        (("cache-aware", "admission"), True),
        (("admission", "cache-aware"), True),
    ],
)
def test_overload_needs_an_arm_that_bounds_what_it_accepts(
    tmp_path: Path, arms: tuple[str, str], *, suits: bool
) -> None:
    reason = why_not(replace(OPEN, overload=True), resolve(Options(arms=arms), tmp_path, "run"))
    assert reason is None if suits else "such as managed" in (reason or "")


def test_whether_endpoints_bound_what_they_accept_is_not_known(tmp_path: Path) -> None:
    assert why_not(replace(OPEN, overload=True), resolved(tmp_path, url=BOTH)) is None


def test_what_was_sent_counts_and_limits_what_follows() -> None:
    budget = Budget(max_requests=4)
    budget.count([answered(0, 0.1), answered(1, 0.1, prompt_tokens=None, output_tokens=None)])
    assert budget.sent == Amount(2, 2 * (16 + 5))
    assert budget.allows(Amount(2, 1000))
    assert not budget.allows(Amount(3))
    assert not Budget(max_tokens=10).allows(Amount(1, 11))
    with pytest.raises(UserError, match=r"needs up to 3 requests .* raise --max-requests"):
        budget.require("latency x", Amount(3, 30), Amount(30, 300))


def test_a_large_run_at_endpoints_needs_consent() -> None:
    large = Amount(LARGE_REQUESTS + 1, 1)
    with pytest.raises(UserError, match="give --yes"):
        Budget(asks=True).require("latency x", Amount(1), large)
    Budget().require("latency x", Amount(1), large)
    Budget(asks=True).require("latency x", Amount(1), Amount(LARGE_REQUESTS, 1))
