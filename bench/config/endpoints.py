"""The endpoints of `--env external`: URLs that serve models already.

They come from `--url` or `--endpoints` and their companions, or from a file:

    arms:                                # what is compared; or `balanced`, below
      control:
        url: https://a.example/v1        # for all models; or `urls`, by model
        name: a                          # in reports; default: the host
        api_key_env: A_KEY               # or api_key_file
        headers: {x-team: search}
        body: {min_p: 0.1}               # further fields of each request; null leaves one out
        api: completions                 # default: chat
        ca: our-ca.pem                   # also: certificate, key, insecure: true
        replicas: {NAME: [http://10.0.0.1:8000, {url: ..., metrics: ...}]}
      treatment: ...
    balanced:                            # the same fields, for one set of replicas:
      replicas: {NAME: [...]}            # the arms of the topology run in front of them
      max_num_seqs: 256                  # of a replica; with it loads relate to capacity
    models: {NAME: {tokenizer: folder, max_model_len: 8192}}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, with_config

from bench.config.topology import Count
from bench.config.yamlfile import load_yaml
from bench.errors import UserError
from bench.load.client.api import Api, ApiKind, split_url
from bench.processes.tls import Tls
from bench.records import Replica, Role, role_number, roles_for

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
# What a user copies from a command line or from docs, and what belongs before it.
_FULL_PATHS = ("/chat/completions", "/completions", "/models")

_strict = with_config(ConfigDict(extra="forbid"))


@_strict
@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as endpoints name it.

    `tokenizer` is a folder with its tokenizer.json. Requests of a trace that are longer than
    `max_model_len` tokens are fitted to it.
    """

    tokenizer: Path | None = None
    max_model_len: Count | None = None


@_strict
@dataclass(frozen=True, slots=True)
class ReplicaEntry:
    """A replica as written: a base URL, and where its metrics are if not at URL/metrics."""

    url: str
    metrics: str = ""


def _with_url(entry: object) -> object:
    return {"url": entry} if isinstance(entry, str) else entry


Replicas = Annotated[
    tuple[Annotated[ReplicaEntry, BeforeValidator(_with_url)], ...], Field(min_length=1)
]


@_strict
@dataclass(frozen=True, slots=True)
class EndpointEntry:
    """One endpoint, or set of replicas, as written.

    `url` is for all models, `urls` by model; `name` is for reports. The key is in the variable
    `api_key_env` or in `api_key_file`. `body` has more fields of each request; null leaves one out.
    `ca`, `certificate` and `key` are PEM files. `replicas` are those that are known, by model; each
    runs `max_num_seqs` sequences at once.
    """

    url: str | None = None
    urls: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    api: ApiKind = "chat"
    api_key_env: str | None = None
    api_key_file: Path | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False
    replicas: dict[str, Replicas] = field(default_factory=dict)
    max_num_seqs: Count | None = None


@_strict
@dataclass(frozen=True, slots=True)
class EndpointsFile:
    """All of it, as written."""

    models: dict[str, ServedModel | None]
    arms: dict[Role, EndpointEntry] = field(default_factory=dict)
    balanced: EndpointEntry | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How something is reached: base URLs by model, without `/v1`, and how requests are written.

    `name` is for reports. `replicas` are those that the user knows of behind it; there may be none.
    """

    name: str
    urls: Mapping[str, str]
    api: Api
    replicas: tuple[Replica, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What is measured: an endpoint for each role, and the models that all serve.

    If `balanced`, the control's are the replicas of all, by `replicas`, and the arms of the
    topology run in front of them. `max_num_seqs` is the number of sequences that a replica runs
    at once, None if it is not known.
    """

    arms: Mapping[Role, Endpoint]
    models: Mapping[str, ServedModel]
    balanced: bool = False
    max_num_seqs: int | None = None


def endpoints_from_options(
    pairs: Sequence[str],
    replicas: Sequence[str],
    models: Sequence[str],
    entry: EndpointEntry,
    environ: Mapping[str, str],
) -> Endpoints:
    """The endpoints of `--url ROLE=URL`, or of `--endpoints URL,URL`: replicas of one model.

    All else that `entry` has is the same for all. Raises UserError with one line for the first
    mistake.
    """
    if not models:
        raise UserError("--env external needs --model NAME, as the endpoints name the model")
    if not replicas:
        urls = _urls(pairs)
        arms = {role: replace(entry, url=url) for role, url in urls.items()}
        return _resolved(EndpointsFile(dict.fromkeys(models), arms), environ, "--url")
    if pairs or len(models) > 1:
        seen = "--url is given, too" if pairs else f"{len(models)} models are named"
        raise UserError(f"--endpoints URL,URL takes replicas of one model, and {seen}")
    entries = tuple(ReplicaEntry(url) for url in replicas)
    balanced = replace(entry, replicas={models[0]: entries})
    written = EndpointsFile(dict.fromkeys(models), balanced=balanced)
    return _resolved(written, environ, "--endpoints")


def endpoints_from_file(path: Path, environ: Mapping[str, str]) -> Endpoints:
    """The endpoints of a file. Raises UserError with one line for the first mistake."""
    return _resolved(load_yaml(path, EndpointsFile), environ, str(path))


def _resolved(written: EndpointsFile, environ: Mapping[str, str], source: str) -> Endpoints:
    """What is written, checked, with keys read. `source` says in errors where it is written."""
    if not written.models:
        raise UserError(f"{source}: models: none are listed; list those that all endpoints serve")
    if (written.balanced is None) == (not written.arms):
        raise UserError(f"{source}: give either arms or balanced")
    models = {name: model or ServedModel() for name, model in written.models.items()}
    if written.balanced is not None:
        one = _checked("balanced", written.balanced, tuple(models), environ, source)
        return Endpoints({"control": one}, models, True, written.balanced.max_num_seqs)
    roles, missing = _roles(written.arms, source)
    if missing:
        raise UserError(f"{source}: {missing[0]} is missing; each role needs an endpoint")
    found = [_checked(one, written.arms[one], tuple(models), environ, source) for one in roles]
    named = [replace(one, name=name) for one, name in zip(found, _names(found), strict=True)]
    return Endpoints(dict(zip(roles, named, strict=True)), models)


def _roles(given: Collection[Role], source: str) -> tuple[tuple[Role, ...], list[Role]]:
    """All roles of as many arms, and those of them that are not given. Raises UserError."""
    for role in given:
        try:
            role_number(role)
        except ValueError as error:
            raise UserError(f"{source}: {error}") from None
    roles = roles_for(max(2, len(given)))
    return roles, [role for role in roles if role not in given]


def base_url(text: str) -> str:
    """A base URL without its last `/v1`. Raises UserError for what no request can be sent to."""
    url = split_url(text)
    if url.username or url.password:
        raise UserError(
            f"the URL of {url.hostname} holds a user or a password; "
            "give it as a header of an endpoints file, or as --api-key-env"
        )
    if url.query or url.fragment:
        raise UserError(f"{text!r} has more than a path; give the base URL, which ends with /v1")
    path = url.path.rstrip("/")
    if path.endswith(_FULL_PATHS):
        raise UserError(f"{text!r} is a page of the API; give the base URL, which ends with /v1")
    return f"{url.scheme}://{url.netloc}{path.removesuffix('/v1')}"


def _urls(pairs: Sequence[str]) -> dict[Role, str]:
    """The URL of each role. Raises UserError unless all roles have one."""
    urls: dict[Role, str] = {}
    for pair in pairs:
        role, equals, url = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UserError(f"--url {pair!r} is not ROLE=URL with role control or treatment")
        if role in urls:
            raise UserError(f"--url names {role} twice; name each role once")
        urls[role] = url
    _, missing = _roles(urls, "--url")
    if missing:
        raise UserError(
            f"--env external needs --url {missing[0]}=URL, one for each role, or --endpoints"
        )
    return urls


def _checked(
    place: str,
    entry: EndpointEntry,
    models: Sequence[str],
    environ: Mapping[str, str],
    source: str,
) -> Endpoint:
    try:
        return _endpoint(entry, models, environ, balanced=place == "balanced")
    except UserError as error:
        raise UserError(f"{source}: {place}: {error}") from None


def _endpoint(
    entry: EndpointEntry, models: Sequence[str], environ: Mapping[str, str], *, balanced: bool
) -> Endpoint:
    if unknown := [one for one in (*entry.urls, *entry.replicas) if one not in models]:
        raise UserError(f"model {unknown[0]!r} is not listed under models")
    urls = {model: entry.urls.get(model, entry.url) for model in models}
    if balanced:
        if entry.url or entry.urls:
            raise UserError("balancers run in front of replicas; give these, and no url")
        if lacking := [model for model in models if model not in entry.replicas]:
            raise UserError(f"no replicas of model {lacking[0]!r}; list some")
        if entry.insecure or entry.certificate:
            raise UserError("the balancer verifies replicas by their CA: give ca, nothing else")
    elif lacking := [model for model, url in urls.items() if url is None]:
        raise UserError(f"no URL for model {lacking[0]!r}; give url, or urls with this model")
    return Endpoint(
        name=entry.name or "",
        urls={model: base_url(url) for model, url in urls.items() if url is not None},
        api=Api(
            kind=entry.api,
            headers=_headers(entry, environ),
            fields=entry.body,
            tls=Tls(entry.ca, entry.certificate, entry.key, verify=not entry.insecure),
        ),
        replicas=tuple(
            Replica(model, f"{model}-{index}", base_url(one.url), one.metrics)
            for model, replicas in entry.replicas.items()
            for index, one in enumerate(replicas)
        ),
    )


def _headers(entry: EndpointEntry, environ: Mapping[str, str]) -> dict[str, str]:
    headers = dict(entry.headers)
    if (key := _api_key(entry, environ)) is not None:
        headers["Authorization"] = f"Bearer {key}"
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise UserError(f"{name!r} is not the name of a header")
        if not value.isprintable() or not value.isascii():
            raise UserError(f"header {name} has a value that is not plain text in one line")
    return headers


def _api_key(entry: EndpointEntry, environ: Mapping[str, str]) -> str | None:
    """The key, which no message shows. Raises UserError where there is none."""
    if entry.api_key_env is not None and entry.api_key_file is not None:
        raise UserError("give either api_key_env or api_key_file")
    if entry.api_key_env is not None:
        key = environ.get(entry.api_key_env, "").strip()
        if not key:
            raise UserError(f"environment variable {entry.api_key_env} is empty; put the key in it")
        return key
    if entry.api_key_file is not None:
        try:
            key = entry.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {entry.api_key_file}: {error}") from None
        if not key:
            raise UserError(f"{entry.api_key_file} is empty; put the key in it")
        return key
    return None


def _names(endpoints: Sequence[Endpoint]) -> list[str]:
    """A safe name for each: its own, else its host and port, or more where these are equal.

    The same URL twice has one name: it is compared with itself.
    """
    urls = [next(iter(one.urls.values())) for one in endpoints]
    without_scheme = [url.partition("://")[2] for url in urls]
    hosts = [url.partition("/")[0] for url in without_scheme]
    telling = (some for some in (hosts, without_scheme) if len(set(some)) == len(set(urls)))
    return [
        _UNSAFE.sub("-", one.name or name).strip("-.")
        for one, name in zip(endpoints, next(telling, urls), strict=True)
    ]
