"""Tenants: whose requests they are, on the wire and in what is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.blocks import order
from bench.analysis.gates import describe_slo
from bench.analysis.judge import judge
from bench.analysis.judgement import SloOutcome
from bench.analysis.metrics import metric
from bench.analysis.rates import fairness, jains_index, max_min_shares, service_fairness
from bench.config.slo import load_slos
from bench.errors import UserError
from bench.load.client.client import Client
from bench.load.plan.arrivals import Constant, OnOff, Poisson
from bench.load.plan.schedule import plan_traffic
from bench.load.plan.tenants import Mixture, Tenant
from bench.load.plan.workload import Fixed, Workload
from bench.records import PlannedRequest, Role, Slo, Trial
from reports.page import objectives_of
from tests.bench.making import FACTS, answered, failed, trial

SHORT, LONG = Workload(Fixed(64), Fixed(8)), Workload(Fixed(96), Fixed(32))
MIXTURE = Mixture(
    (
        Tenant("quiet", Poisson(load=0.2), SHORT),
        Tenant("noisy", OnOff(load=0.6, on_s=1.0, off_s=1.0, ratio=2.0), LONG),
    )
)


@given(st.floats(4, 200), st.floats(2, 20), st.integers(0, 2**32))
def test_tenants_send_their_shares_of_the_load_merged_by_time(
    rate: float, duration: float, seed: int
) -> None:
    sent = list(MIXTURE.stream(rate, duration, np.random.default_rng(seed)))
    times = [at for at, _ in sent]
    assert times == sorted(times)
    counts = {name: sum(ask.tenant == name for _, ask in sent) for name in MIXTURE.names}
    assert counts["quiet"] == pytest.approx(rate * duration / 4, abs=0.51)
    assert counts["noisy"] == pytest.approx(rate * duration * 3 / 4, abs=0.51)
    assert {(ask.tenant, ask.output_tokens) for _, ask in sent} <= {("quiet", 8), ("noisy", 32)}


def test_a_tenant_sends_the_same_whatever_others_do() -> None:
    def sent(other: Tenant) -> list[object]:
        mixture = Mixture((MIXTURE.tenants[0], other))
        stream = mixture.stream(20.0, 10.0, np.random.default_rng(1))
        return [one for one in stream if one[1].tenant == "quiet"]

    loud = Tenant("noisy", Constant(load=0.6), LONG)
    assert sent(MIXTURE.tenants[1]) == sent(loud)


@given(st.integers(1, 500), st.integers(0, 2**32))
def test_capacity_is_measured_with_tenants_in_their_shares(count: int, seed: int) -> None:
    drawn = list(MIXTURE.draw(count, np.random.default_rng(seed)))
    assert len(drawn) == count
    assert sum(ask.tenant == "noisy" for ask in drawn) == pytest.approx(0.75 * count, abs=2)
    mean_output = 0.75 * 32 + 0.25 * 8
    asked = sum(ask.output_tokens for ask in drawn)
    assert asked == pytest.approx(mean_output * count, abs=2 * (32 - 8))


@pytest.mark.parametrize("names", [[], [""], ["a", "a"]])
def test_tenants_without_names_of_their_own_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="tenants need names of their own"):
        Mixture(tuple(Tenant(name, Poisson(load=0.1), SHORT) for name in names))


def test_the_schedule_and_the_request_name_the_tenant() -> None:
    schedule = plan_traffic(seed=1, rates_rps={"m": 20.0}, traffic=MIXTURE, duration_s=2.0)
    client = Client("http://127.0.0.1:1")
    for planned in schedule.requests:
        head = client.encode(planned, "text").split(b"\r\n\r\n")[0].decode()
        assert f"X-Tenant: {planned.tenant}\r\n" in head
    renamed = tuple(replace(one, name=one.name.upper()) for one in MIXTURE.tenants)
    other = plan_traffic(seed=1, rates_rps={"m": 20.0}, traffic=Mixture(renamed), duration_s=2.0)
    assert other.sha256 != schedule.sha256


def test_a_request_for_nobody_in_particular_has_no_such_header() -> None:
    planned = PlannedRequest(0, 0.0, "m", 64, 8, 1)
    assert b"enant" not in Client("http://127.0.0.1:1").encode(planned, "text")


# What is judged.


def mixed(role: Role, block: int, position: int, quiet_ttft_s: float) -> Trial:
    quiet = [answered(n, quiet_ttft_s, tenant="quiet") for n in range(60)]
    noisy = [answered(n, 0.8, tenant="noisy") for n in range(60, 120)]
    slos = {
        "tiny-llama": Slo(ttft_s=1.0),
        "tiny-llama@quiet": Slo(ttft_s=0.2),
        "tiny-llama@noisy": Slo(ttft_s=1.0),
    }
    facts = replace(
        FACTS,
        primary="scheduled_ttft_p90_s@quiet",
        metrics=("scheduled_ttft_p90_s@quiet", "fairness", "scheduled_ttft_p50_s"),
        slos=slos,
        tenants=("quiet", "noisy"),
    )
    return trial(role, block, position, quiet + noisy, scenario=facts)


def test_a_metric_of_one_tenant_and_each_tenants_slo_are_judged() -> None:
    ttft_s = {"control": 0.3, "treatment": 0.1}
    judgement = judge(
        [
            mixed(role, block, position, ttft_s[role] + 0.001 * block)
            for block in range(4)
            for position, role in enumerate(order(block))
        ]
    )
    assert judgement.primary is not None
    assert judgement.primary.metric == "scheduled_ttft_p90_s@quiet"
    assert judgement.primary.ratio == pytest.approx(1 / 3, rel=0.05)
    outcomes = {(one.role, one.tenant): one.outcome for one in judgement.slos}
    assert outcomes == {
        ("control", "quiet"): SloOutcome.MISSED,
        ("control", "noisy"): SloOutcome.MET,
        ("treatment", "quiet"): SloOutcome.MET,
        ("treatment", "noisy"): SloOutcome.MET,
    }


def test_a_tenants_objectives_are_told_with_its_name() -> None:
    judgement = judge([mixed("control", 0, 0, 0.3)])
    titles = [name for name, _, _ in objectives_of([judgement])]
    assert titles == [f"{FACTS.name} · tiny-llama · {name}" for name in ("quiet", "noisy")]
    assert "requests to tiny-llama for quiet to meet ttft ≤ 0.2 s" in describe_slo(
        judgement.slos[0]
    )


def test_an_unknown_metric_of_a_tenant_is_told() -> None:
    with pytest.raises(UserError, match=r"unknown metric 'tft_p90_s@quiet'; did you mean"):
        metric("tft_p90_s@quiet")


@given(st.lists(st.integers(0, 20), min_size=2, max_size=6))
def test_fairness_is_jains_index_of_attainments(met: list[int]) -> None:
    samples = [
        answered(n, 0.1 if n < good else 5.0, tenant=f"t{tenant}")
        for tenant, good in enumerate(met)
        for n in range(20)
    ]
    index = fairness(samples, 10.0, {"tiny-llama": Slo(ttft_s=1.0)})
    if not any(met):
        assert index is None
        return
    assert index == pytest.approx(sum(met) ** 2 / (len(met) * sum(n**2 for n in met)))
    if len(set(met)) == 1:
        assert index == pytest.approx(1.0)


def test_of_one_tenant_there_is_no_fairness() -> None:
    assert fairness([answered(0, 0.1)], 10.0, {"tiny-llama": Slo(ttft_s=1.0)}) is None
    assert service_fairness([answered(0, 0.1)], 10.0, {}) is None


ASKED = st.lists(st.integers(1, 1000), min_size=2, max_size=8)


@given(ASKED, st.floats(0, 1))
def test_max_min_shares_take_from_nobody_who_got_less(asked: list[int], part: float) -> None:
    total = part * sum(asked)
    shares = max_min_shares(asked, total)
    assert sum(shares) == pytest.approx(total)
    assert all(0 <= share <= most + 1e-9 for share, most in zip(shares, asked, strict=True))
    for share, most in zip(shares, asked, strict=True):
        assert share == pytest.approx(most) or share >= max(shares) * (1 - 1e-9) - 1e-9


def served(asked: Mapping[str, int], got: Mapping[str, int]) -> float | None:
    """The fairness of service where tenants asked for so many alike requests, and got some."""
    samples = [
        answered(0, 0.1, tenant=tenant) if n < got[tenant] else failed(0, tenant=tenant)
        for tenant, count in asked.items()
        for n in range(count)
    ]
    return service_fairness(samples, 10.0, {})


def test_service_is_fair_where_only_the_greedy_one_gets_less_than_it_asked_for() -> None:
    asked = {"quiet": 10, "greedy": 40}
    assert served(asked, asked) == pytest.approx(1.0)
    assert served(asked, {"quiet": 10, "greedy": 20}) == pytest.approx(1.0)
    # In proportion to what they ask for: of 30 the quiet one should have had 10, and got 6.
    shared = served(asked, {"quiet": 6, "greedy": 24})
    assert shared == pytest.approx((0.6 + 1.2) ** 2 / (2 * (0.6**2 + 1.2**2)))
    assert served(asked, {"quiet": 0, "greedy": 20}) == pytest.approx(0.5)
    assert served(asked, {"quiet": 0, "greedy": 0}) is None


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1)), min_size=2, max_size=8))
def test_the_fairness_of_service_is_at_least_that_of_one_who_got_all(
    drawn: list[tuple[int, float]],
) -> None:
    asked, got = [most for most, _ in drawn], [most * part for most, part in drawn]
    fair = max_min_shares(asked, sum(got))
    index = jains_index([mine / share for mine, share in zip(got, fair, strict=True) if share])
    assert index is None or 1 / len(asked) - 1e-9 <= index <= 1 + 1e-9


def test_what_was_served_after_the_window_is_no_service() -> None:
    late = [answered(n, 0.1 if n else 20.0, tenant=f"t{n % 2}") for n in range(2)]
    assert service_fairness(late, 10.0, {}) == pytest.approx(0.5)


def test_an_slo_of_a_tenant_that_the_scenario_does_not_have_is_told(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text("scenarios: {noisy-neighbour: {ttft_s: 1, tenants: {quit: {ttft_s: 0.2}}}}")
    slos = load_slos(path)
    assert slos.resolve("noisy-neighbour", "m", "quit").ttft_s == 0.2
    assert slos.resolve("noisy-neighbour", "m", "noisy").ttft_s == 1
    with pytest.raises(UserError, match=r"tenants.quit: unknown name; known: noisy, quiet"):
        slos.check_tenants("noisy-neighbour", ("quiet", "noisy"))
