from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.records import Slo
from bench.slo import Slos, load_slos

LEVELS = """
default: {ttft_s: 2.0, tpot_s: 0.1, attainment: 0.9}
scenarios:
  latency:
    ttft_s: 1.0
    models:
      small: {ttft_s: 0.5, tpot_s: null}
"""


def written(folder: Path, text: str) -> Slos:
    path = folder / "slo.yaml"
    path.write_text(text, encoding="utf-8")
    return load_slos(path)


@pytest.mark.parametrize(
    ("scenario", "model", "expected"),
    [
        ("other", "small", Slo(ttft_s=2.0, tpot_s=0.1, attainment=0.9)),
        ("latency", "large", Slo(ttft_s=1.0, tpot_s=0.1, attainment=0.9)),
        ("latency", "small", Slo(ttft_s=0.5, tpot_s=None, attainment=0.9)),
    ],
)
def test_most_specific_value_wins(tmp_path: Path, scenario: str, model: str, expected: Slo) -> None:
    assert written(tmp_path, LEVELS).resolve(scenario, model) == expected


def test_shipped_file_is_valid_for_every_scenario() -> None:
    assert load_slos().resolve("latency", "tiny-llama").ttft_s is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: {ttft_s: -1}", "default.ttft_s: .*greater than 0, seen -1"),
        ("default: {ttft_s: fast}", "default.ttft_s: .*seen 'fast'"),
        ("default: {ttft_s: .nan}", "default.ttft_s: .*seen nan"),
        ("default: {ttft_s: .inf}", "default.ttft_s: .*seen inf"),
        ("default: {attainment: 90}", "default.attainment: .*seen 90"),
        ("defaults: {}", "defaults: .*not permitted"),
        ("scenarios: {x: {models: {m: 3}}}", "scenarios.x.models.m: .*seen 3"),
        ("default: [", "is not YAML"),
        ("", "the file: .*seen None"),
    ],
)
def test_mistake_is_one_line_that_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        written(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_entry_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    slos = written(tmp_path, LEVELS)
    slos.check_names({"latency"}, {"small"})
    with pytest.raises(UserError, match=r"scenarios.latency: unknown name; known: burst"):
        slos.check_names({"burst"}, {"small"})
    with pytest.raises(UserError, match=r"scenarios.latency.models.small: unknown name"):
        slos.check_names({"latency"}, {"large"})
