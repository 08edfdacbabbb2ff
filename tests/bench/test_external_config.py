"""Endpoints as users write them: options and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bench.config.config import Config, resolve
from bench.config.endpoints import base_url, endpoints_from_file
from bench.config.options import Options
from bench.errors import UserError

BOTH = ("control=https://a.example/v1", "treatment=https://b.example/v1")
FILE = """
models: {NAME: , other: {tokenizer: folder}}
arms:
  control:
    url: http://a:8000/v1
    api_key_env: A_KEY
    headers: {x-team: search}
    body: {min_p: 0.1}
    replicas: {NAME: [http://r0:1, {url: "http://r1:1", metrics: "http://m1:9/x"}]}
  treatment: {urls: {NAME: "http://b:1", other: "http://c:1/openai/v1/"}, name: new one}
"""


def resolved(tmp_path: Path, **options: Any) -> Config:
    options = {"env": "external", "models": ("NAME",), **options}
    return resolve(Options(**options), tmp_path, "run")


def test_two_urls_are_two_arms_named_by_their_hosts(tmp_path: Path) -> None:
    config = resolved(tmp_path, url=BOTH)
    assert {role: arm.name for role, arm in config.arms.items()} == {
        "control": "a.example",
        "treatment": "b.example",
    }
    assert config.model_names == ("NAME",)
    assert config.endpoints is not None
    assert config.endpoints.arms["control"].urls == {"NAME": "https://a.example"}
    assert not config.measures_capacity


def test_one_url_twice_is_one_arm_against_itself(tmp_path: Path) -> None:
    arms = resolved(tmp_path, url=("control=http://h:1", "treatment=http://h:1/v1/")).arms
    assert arms["control"] == arms["treatment"]


def test_paths_of_one_host_are_told_apart(tmp_path: Path) -> None:
    arms = resolved(tmp_path, url=("control=http://h/a/v1", "treatment=http://h/b/v1")).arms
    assert [arm.name for arm in arms.values()] == ["h-a", "h-b"]
    arms = resolved(tmp_path, url=("control=http://h:1/v1", "treatment=https://h:1/v1")).arms
    assert [arm.name for arm in arms.values()] == ["http-h-1", "https-h-1"]


def test_replicas_get_the_arms_of_the_topology(tmp_path: Path) -> None:
    config = resolved(tmp_path, endpoints="http://r0:1/v1,http://r1:1")
    assert [arm.name for arm in config.arms.values()] == ["baseline", "managed"]
    assert config.endpoints is not None
    assert config.endpoints.balanced
    urls = [one.url for one in config.endpoints.arms["treatment"].replicas]
    assert urls == ["http://r0:1", "http://r1:1"]


def test_a_file_has_it_all(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(FILE)
    found = endpoints_from_file(file, {"A_KEY": "secret"})
    control, treatment = found.arms["control"], found.arms["treatment"]
    assert control.urls == {"NAME": "http://a:8000", "other": "http://a:8000"}
    assert treatment.urls == {"NAME": "http://b:1", "other": "http://c:1/openai"}
    assert control.api.headers == {"x-team": "search", "Authorization": "Bearer secret"}
    assert control.api.fields == {"min_p": 0.1}
    assert [one.metrics_url for one in control.replicas] == ["", "http://m1:9/x"]
    assert (control.name, treatment.name) == ("a-8000", "new-one")
    assert found.models["other"].tokenizer == Path("folder")
    assert "secret" not in repr(found)


def test_a_trace_is_fitted_to_what_the_endpoints_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    trace, file = tmp_path / "trace.csv", tmp_path / "endpoints.yaml"
    rows = (f"2023-11-16 18:15:{second:02}.000,{900 * second},100" for second in range(1, 8))
    trace.write_text("\n".join(("TIMESTAMP,ContextTokens,GeneratedTokens", *rows)))
    for length in (2048, 100_000):
        file.write_text(FILE.replace("NAME: ,", f"NAME: {{max_model_len: {length}}},"))
        config = resolved(tmp_path, endpoints=str(file), traffic=trace)
        assert config.traffic is not None
        assert config.traffic.limit_tokens == length
        assert bool(config.traffic.shortened) is (length == 2048)


def test_a_file_with_replicas_and_what_they_run_at_once_relates_loads_to_capacity(
    tmp_path: Path,
) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(
        "models: {NAME: }\nbalanced: {replicas: {NAME: ['http://r0:1']}, max_num_seqs: 4}"
    )
    config = resolved(tmp_path, endpoints=str(file))
    assert config.measures_capacity
    assert config.max_num_seqs == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs --url control=URL"),
        ({"url": BOTH, "models": ()}, "needs --model NAME"),
        ({"url": BOTH[:1]}, "needs --url treatment=URL"),
        ({"url": (*BOTH, BOTH[0])}, "names control twice"),
        ({"url": ("a=http://x", BOTH[1])}, "--url: 'a' is no role"),
        ({"url": ("http://x", BOTH[1])}, "is not ROLE=URL"),
        ({"url": (*BOTH, "treatment-3=http://x")}, "needs --url treatment-2=URL"),
        ({"url": ("control=a.example/v1", BOTH[1])}, "is not an HTTP URL"),
        ({"url": ("control=http://a:port", BOTH[1])}, "is not a URL"),
        ({"url": ("control=http://a/v1/chat/completions", BOTH[1])}, "is a page of the API"),
        ({"url": ("control=http://a/v1?k=v", BOTH[1])}, "has more than a path"),
        ({"url": ("control=http://u:s3cret@a/v1", BOTH[1])}, "holds a user or a password"),
        ({"url": BOTH, "api_key_env": "BENCH_NO_SUCH_KEY"}, "BENCH_NO_SUCH_KEY is empty"),
        ({"url": BOTH, "driver": "openai"}, "takes --driver builtin"),
        ({"url": BOTH, "endpoints": "http://a"}, "--url is given, too"),
        ({"url": BOTH, "endpoints": "file.yaml"}, "write it in that file"),
        ({"endpoints": "none.yaml"}, "cannot read none.yaml"),
        ({"endpoints": "http://a", "models": ("x", "y")}, "2 models are named"),
        ({"endpoints": "http://a", "insecure": True}, "give ca, nothing else"),
        ({"url": BOTH, "env": "local", "models": ()}, "belongs to --env external"),
    ],
)
def test_mistakes_in_options_are_said_in_one_line(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    assert "BENCH_NO_SUCH_KEY" not in os.environ
    with pytest.raises(UserError) as caught:
        resolved(tmp_path, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {}\narms: {control: {url: 'http://a'}}", "none are listed"),
        ("models: {N: }", "give either arms or balanced"),
        ("models: {N: }\narms: {control: {url: 'http://a'}}", "treatment is missing"),
        ("models: {N: }\nbalanced: {url: 'http://a'}", "and no url"),
        ("models: {N: }\nbalanced: {}", "no replicas of model 'N'"),
        ("models: {N: }\nbalanced: {replicas: {N: []}}", "balanced.replicas.N"),
        ("models: {N: }\nbalanced: {replicas: {M: ['http://a']}}", "model 'M' is not listed"),
        ("models: {N: }\nbalanced: {headers: {'a b': c}, replicas: {N: ['http://a']}}", "'a b'"),
        ("models: {N: }\narms: {control: {url: 'http://a', keys: 1}}", "keys"),
        (
            "models: {N: }\narms: {control: {url: 'http://a', name: x},"
            " treatment: {url: 'http://b', name: x}}",
            "two endpoints are named x",
        ),
    ],
)
def test_mistakes_in_a_file_are_said_with_their_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        resolved(tmp_path, endpoints=str(file), models=())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_the_file_lacks_is_said(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(FILE.replace("    api_key_env: A_KEY\n", ""))
    with pytest.raises(UserError, match="unknown model 'x'; the file of --endpoints has NAME"):
        resolved(tmp_path, endpoints=str(file), models=("x",))


def test_a_key_comes_from_a_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    file = tmp_path / "endpoints.yaml"
    text = "models: {N: }\nbalanced: {api_key_file: %s, replicas: {N: ['http://a']}}"
    file.write_text(text % key)
    api = endpoints_from_file(file, {}).arms["control"].api
    assert api.headers == {"Authorization": "Bearer secret"}
    key.write_text("")
    with pytest.raises(UserError, match="is empty; put the key in it"):
        endpoints_from_file(file, {})


@pytest.mark.parametrize(
    ("written", "base"),
    [
        ("http://h", "http://h"),
        ("http://h:8000/", "http://h:8000"),
        ("https://h/openai/v1/", "https://h/openai"),
        ("https://[::1]:1/v1", "https://[::1]:1"),
    ],
)
def test_base_urls(written: str, base: str) -> None:
    assert base_url(written) == base
