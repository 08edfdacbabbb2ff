from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.slo import Slos, load_slos
from bench.errors import UserError
from bench.records import Slo

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


def test_the_line_of_each_objective_is_that_of_the_value_that_counts(tmp_path: Path) -> None:
    slos = written(tmp_path, LEVELS)
    assert slos.lines("other", "small") == {"ttft_s": 2, "tpot_s": 2, "attainment": 2}
    assert slos.lines("latency", "large") == {"ttft_s": 5, "tpot_s": 2, "attainment": 2}
    assert slos.lines("latency", "small") == {"ttft_s": 7, "tpot_s": 7, "attainment": 2}
    assert slos.models_of("latency") == ("small",)
    assert written(tmp_path, "{}").lines("latency", "small") == {}


def test_shipped_file_is_valid_for_every_scenario() -> None:
    assert load_slos().resolve("latency", "tiny-llama").ttft_s is not None


# What YAML 1.1 takes for 1, 0, 90 and 8, and what is text.
NO_NUMBERS = {
    "yes": "'yes'",
    "off": "'off'",
    "true": "True",
    "1:30": "'1:30'",
    "010": "'010'",
    "1_0": "'1_0'",
    "'2'": "'2'",
    "9" * 5000: "inf",
}


TAGGED = ("!!int 1:30", "!!int x", "!!float ''", "!!bool maybe", "!!timestamp x", "!mine 2")


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
        (
            "default:\n  ttft_s: 2\n  tpot_s: 1\n  ttft_s: 20\n",
            "line 4: ttft_s is .*twice, .*line 2",
        ),
        ("default: {ttft_s: 2, ttft_s: 2}", "line 1: ttft_s is given twice, first in line 1"),
        ("scenarios:\n  a: {}\n  b: {}\n  'a': {}\n", "line 4: a is given twice, first in line 2"),
        *(
            (f"default:\n  tpot_s: 1\n  ttft_s: {text}\n", f"line 3: default.ttft_s: .*seen {seen}")
            for text, seen in NO_NUMBERS.items()
        ),
        *((f"default:\n  ttft_s: {one}\n", "line 2: .* has the tag .*remove it") for one in TAGGED),
        ("[" * 5000, "is nested too deeply"),
        ("\n".join(" " * level + "a:" for level in range(2000)), "is nested too deeply"),
        ("default: {}\n---\ndefault: {}\n", "is not YAML: expected a single document"),
        ("", "the file: .*seen None"),
    ],
)
def test_mistake_is_one_line_that_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        written(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_one_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "slo.yaml"
    path.write_bytes("default: {ttft_s: 2}".encode(encoding))
    with pytest.raises(UserError, match=r"is not (UTF-8 text|YAML)") as caught:
        load_slos(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("written_as", ["2", "2.0", "2e0", "+2", "2."])
def test_a_number_may_be_written_as_usual(tmp_path: Path, written_as: str) -> None:
    slos = written(tmp_path, f"\ufeffdefault: {{ttft_s: {written_as}, tpot_s: ~}}")
    assert slos.resolve("x", "m") == Slo(ttft_s=2.0)


def test_an_entry_may_override_what_it_merges(tmp_path: Path) -> None:
    text = "default: &all {ttft_s: 2}\nscenarios:\n  x:\n    <<: *all\n    ttft_s: 3\n"
    assert written(tmp_path, text).resolve("x", "m").ttft_s == 3.0


def test_entry_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    slos = written(tmp_path, LEVELS)
    slos.check_names({"latency"}, {"small"})
    with pytest.raises(UserError, match=r"scenarios.latency: unknown name; known: burst"):
        slos.check_names({"burst"}, {"small"})
    with pytest.raises(UserError, match=r"scenarios.latency.models.small: unknown name"):
        slos.check_names({"latency"}, {"large"})
