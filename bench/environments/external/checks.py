"""Checks of an endpoint before anything is measured: it answers, and what it can do.

The requests of a trial have fields that not every server knows. Which of them an endpoint takes is
tried out here, the fullest request first.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx
import orjson

from bench.errors import UserError
from bench.load.client.api import Api, split_url
from bench.load.plan.schedule import plan_closed_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import Load, run_load
from bench.processes.ports import is_loopback
from bench.records import Sample

_TIMEOUT_S = 120.0
_PROMPT = "Count from one to twenty, one number a line."
_ANSWER_TOKENS = 16
_LENGTHS: Mapping[str, Any] = {"min_tokens": None, "ignore_eos": None}
# What a request may lack, from the least that is lost to the most, and what that means.
_REDUCTIONS: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({}, ""),
    (_LENGTHS, "it takes no min_tokens and ignore_eos: answers may be shorter than asked for"),
    (
        {**_LENGTHS, "stream_options": None},
        "it takes no min_tokens, ignore_eos and stream_options: answers may be shorter than asked "
        "for",
    ),
)
_REFUSED = (400, 404, 422)
_MODELS = "/v1/models"


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found out about an endpoint for one model.

    `reduction` has the fields that it does not take, with None. `text` is its answer to a fixed
    prompt at temperature 0, `engine` what serves there as far as it says so. `notes` say what
    cannot be known or asked for there, a line each.
    """

    name: str
    url: str
    api: Api
    reduction: Mapping[str, Any]
    exact_answers: bool
    text: str
    engine: str
    notes: tuple[str, ...]


def examine(name: str, url: str, api: Api, model: str) -> Examined:
    """Ask a base URL for its models, one whole answer, and one streamed answer.

    Raises UserError with one line for the first thing that keeps it from being measured.
    """
    _refuse_proxy(url)
    with _client(url, api) as client:
        listed = _get(client, url, _MODELS)
        _require_model(listed, url, model)
        engine = _engine(client, url, listed)
        text = _text(client, url, api, model)
    reduction, note, sample = _streamed(url, api, model)
    notes = [note] if note else []
    short = sample.output_tokens is not None and sample.output_tokens < _ANSWER_TOKENS
    if sample.output_tokens is None:
        notes.append("it counts no tokens: token rates and TPOT are not known")
    elif short and not reduction:
        notes.append("it ends answers before the tokens asked for: their lengths may differ")
    if listed.headers.get("connection", "").lower() == "close":
        notes.append("it closes the connection after each answer: each request opens one")
    exact = not (reduction or short)
    return Examined(name, url, api, reduction, exact, text, engine, tuple(notes))


def requests_for_all(api: Api, found: Sequence[Examined]) -> Api:
    """How requests are written that every endpoint takes."""
    fields = {name: value for one in found for name, value in one.reduction.items()}
    exact = all(one.exact_answers for one in found)
    return replace(api, fields={**fields, **api.fields}, exact_answers=exact)


def round_trips_s(first: Examined, second: Examined, count: int) -> list[tuple[float, float]]:
    """Seconds of `count` requests for the list of models at each of two endpoints, in turn."""
    with _client(first.url, first.api) as one, _client(second.url, second.api) as two:
        for client, endpoint in ((one, first), (two, second)):
            _get(client, endpoint.url, _MODELS)  # opens the connection
        return [(_timed_s(one, first.url), _timed_s(two, second.url)) for _ in range(count)]


def _timed_s(client: httpx.Client, url: str) -> float:
    began_s = time.monotonic()
    _get(client, url, _MODELS)
    return time.monotonic() - began_s


def _refuse_proxy(url: str) -> None:
    """Raise UserError where the environment names a proxy for `url`: it would be measured, too."""
    parts = split_url(url)
    host = parts.hostname or ""
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not (is_loopback(host) or proxy_bypass(host)):
        raise UserError(
            f"{url} would be reached through a proxy ({parts.scheme}_proxy is set), which is not "
            f"supported; add {host} to no_proxy, or measure from a place without one"
        )


def _client(url: str, api: Api) -> httpx.Client:
    return httpx.Client(
        headers=dict(api.headers),
        timeout=_TIMEOUT_S,
        trust_env=False,
        verify=api.tls.context() if url.startswith("https:") else True,
    )


def _get(client: httpx.Client, url: str, path: str) -> httpx.Response:
    try:
        return client.get(f"{url}{path}")
    except httpx.HTTPError as error:
        raise UserError(_unreachable(url, error)) from None


def _unreachable(url: str, error: httpx.HTTPError) -> str:
    """One line: why no answer came from `url`, and what to do."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {url} is not trusted: {cause.verify_message}; "
                "give its CA with --ca, or --insecure"
            )
        if isinstance(cause, ssl.SSLError):
            return f"{url} does not speak TLS here: {cause.reason}; is it http and not https?"
        cause = cause.__cause__ or cause.__context__
    return f"{url} does not answer: {error}; check the address, and that the server runs"


def _require_model(response: httpx.Response, url: str, model: str) -> None:
    """Raise UserError unless the list of models, if there is one, has `model`."""
    if response.status_code == httpx.codes.NOT_FOUND:
        return  # not every server has a list; the next requests show whether it is an API at all
    _require_ok(response, url, _MODELS)
    served = [str(one.get("id")) for one in _listed(response)]
    if not served:
        raise UserError(
            f"{url}{_MODELS} answers {_shown(response)} in place of a list of models; "
            "is this the base URL of an OpenAI-like API?"
        )
    if model not in served:
        raise UserError(f"{url} does not serve model {model!r}; it serves {', '.join(served)}")


def _listed(response: httpx.Response) -> list[Mapping[str, Any]]:
    """The entries of a list of models; empty for anything else."""
    try:
        entries = orjson.loads(response.content)["data"]
    except (ValueError, LookupError, TypeError):
        return []
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _engine(client: httpx.Client, url: str, listed: httpx.Response) -> str:
    """What serves there: vLLM tells its version, others at most who owns a model."""
    if _get(client, url, "/health").status_code != httpx.codes.OK:
        return _owner(listed)
    try:
        return f"vLLM {orjson.loads(_get(client, url, '/version').content)['version']}"
    except (ValueError, LookupError, TypeError):
        return _owner(listed)


def _owner(listed: httpx.Response) -> str:
    owners = [str(one["owned_by"]) for one in _listed(listed) if one.get("owned_by")]
    return f"engine of {owners[0]}, version not known" if owners else "engine not known"


def _require_ok(response: httpx.Response, url: str, path: str) -> None:
    status = response.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        keyed = any(name.lower() == "authorization" for name in response.request.headers)
        if keyed:
            raise UserError(f"{url} refuses the key for {path} ({status}); check the key")
        raise UserError(
            f"{url} refuses access to {path} ({status}); give its key with --api-key-env"
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise UserError(
            f"{url} limits the rate of requests already now (429); wait, or ask for more"
        )
    if status != httpx.codes.OK:
        raise UserError(
            f"{url}{path} answers {status}, {_shown(response)}; check the URL and the server"
        )


def _text(client: httpx.Client, url: str, api: Api, model: str) -> str:
    """The answer to the fixed prompt. Raises UserError where there is none."""
    body = {
        "model": model,
        **api.asked(_PROMPT),
        "max_tokens": _ANSWER_TOKENS,
        "temperature": 0,
        **api.fields,
    }
    content = {name: value for name, value in body.items() if value is not None}
    try:
        response = client.post(f"{url}{api.path}", json=content)
    except httpx.HTTPError as error:
        raise UserError(_unreachable(url, error)) from None
    if response.status_code == httpx.codes.NOT_FOUND:
        raise UserError(
            f"{url} has no {api.path} (404, {_shown(response)}); "
            "check the path of the URL, or set `api` of a file for --endpoints"
        )
    _require_ok(response, url, api.path)
    try:
        choice = orjson.loads(response.content)["choices"][0]
        return str(choice["message"]["content"] if api.kind == "chat" else choice["text"])
    except (ValueError, LookupError, TypeError):
        raise UserError(
            f"{url}{api.path} answers {_shown(response)} in place of a completion; "
            "is this the base URL of an OpenAI-like API?"
        ) from None


def _streamed(url: str, api: Api, model: str) -> tuple[Mapping[str, Any], str, Sample]:
    """The fields that the endpoint does not take, what that means, and a streamed answer."""
    for reduction, note in _REDUCTIONS:
        sample = _sample(url, replace(api, fields={**reduction, **api.fields}), model)
        if sample.ok:
            return reduction, note, sample
        if sample.status not in _REFUSED:
            break
    raise UserError(f"{url} does not stream an answer: {sample.error} ({sample.detail})")


def _sample(url: str, api: Api, model: str) -> Sample:
    """One streamed answer, which may be shorter than asked for."""
    schedule = plan_closed_loop(
        seed=1,
        models=(model,),
        workload=Workload(Fixed(1), Fixed(_ANSWER_TOKENS)),
        concurrency=1,
        duration_s=_TIMEOUT_S,
        count=1,
    )
    api = replace(api, exact_answers=False)
    (sample,) = run_load(
        Load(schedule, (_PROMPT,), (url,), api=api), drain_timeout_s=_TIMEOUT_S
    ).samples
    return sample


def _shown(response: httpx.Response) -> str:
    """A short piece of an answer, with its type where that is no JSON."""
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    text = " ".join(response.text.split())[:80]
    return text if "json" in kind else f"{kind} ({text!r})"
