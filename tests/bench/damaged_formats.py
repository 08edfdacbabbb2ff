"""Every file and message that is read, as one that is whole, and how it is read."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from bench.analysis.judge import judge
from bench.analysis.metrics import METRICS
from bench.cli.conversion import judgement_of, trial_of
from bench.cli.dashboard.history import history, is_complete
from bench.cli.health import check
from bench.config.endpoints import endpoints_from_file
from bench.config.peers import DEFAULT_PEERS, load_peers
from bench.config.slo import load_slos
from bench.config.topology import load_topology
from bench.drivers.artifacts import aiperf, genai_perf
from bench.drivers.artifacts.reading import read_runs
from bench.environments.kubernetes.streams import exit_code
from bench.environments.kvcached.texts import read_gpus, read_log, read_segments, read_tokens
from bench.environments.local.host import read_engines, why_unusable
from bench.environments.operations import Service
from bench.environments.peers import Place, command_of
from bench.errors import UserError
from bench.load.client.answer import read_answer
from bench.load.client.exchange import Exchange
from bench.load.client.response import Response
from bench.load.plan.prompts import PromptMaker
from bench.load.plan.traces.files import read_trace
from bench.load.plan.traces.replay import Replay, fit_trace
from bench.processes.machine import _Holder, _read
from bench.records import Replica
from bench.store import NoiseStore, TrialStore
from bench.store.trials import digest
from bench.telemetry.scraping import read_series
from tests.bench.artifacts import aiperf_line, genai_perf_export, genai_perf_request
from tests.bench.making import answered, failed
from tests.bench.making import trial as made_trial
from tests.bench.operating import ScriptedOperations
from validation.evidence.ledger import LedgerEntry
from validation.evidence.summary import page, summary
from validation.ledger import read_ledger

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests" / "data" / "results"
LEDGER = ROOT / "docs" / "evidence" / "ledger.jsonl"
KVCACHED = ROOT / "tests" / "data" / "kvcached"
EVENT = b'data: {"choices":[{"delta":{"content":"ab"}}]}\n\n'
EVENTS = EVENT * 3 + (
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":3}}\n\ndata: [DONE]\n\n'
)
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS)
)
EXPOSITION = (
    b'vllm:num_requests_running{engine="0",model_name="m"} 2.0\n'
    b'vllm:num_requests_running{engine="1",model_name="m"} 1.0\n'
    b'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25\n'
)
TOKENS = {
    "tokens": ["token_id:1"],
    "token_logprobs": [-1.0],
    "top_logprobs": [{"token_id:1": -1.0, "token_id:3": -1.5}],
}
ENDPOINTS = {
    "models": {"m": None, "n": {"tokenizer": "/x"}},
    "arms": {
        "control": {"url": "https://a.example/v1", "api_key_env": "KEY", "body": {"a": [1]}},
        "treatment": {
            "urls": {"m": "http://b.example:80/v1", "n": "http://b.example:81/v1"},
            "replicas": {"m": ["http://c:1"], "n": [{"url": "http://c:2"}]},
        },
    },
}
HEALTH = {
    "version": "0.1.0",
    "draining": False,
    "replicas": [{"url": "http://a:1", "models": ["m"], "in_flight": 2, "healthy": True}],
}
AZURE = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
    b"2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
)
BURSTGPT = (
    b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    b"5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,Conversation log\n"
)
MOONCAKE = (
    b'{"timestamp": 0, "input_length": 1000, "output_length": 50, "hash_ids": [0, 1]}\n'
    b'{"timestamp": 300, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}\n'
)
SAID = {"what": "a run", "folder": "/a", "held_s": 61.5}
STARTED = {"pid": 7, "start": 70}
REPLICA = {"name": "m-0", "model": "m", "core": 0, "argv": ["--x"], "port": 1, "log": "/l"}
ENGINES = {
    "fingerprint": "f",
    "folder": "/a",
    "host": STARTED,
    "replicas": [REPLICA | {"process": STARTED}],
}
ENDED = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}
WORDS = {f"w{chr(97 + index // 26)}{chr(97 + index % 26)}": 2 + index for index in range(100)}
TOKENIZER = {
    "version": "1.0",
    "model": {"type": "WordLevel", "vocab": {"?": 0, "a": 1} | WORDS, "unk_token": "?"},
    "pre_tokenizer": {"type": "Whitespace"},
}
AIPERF = b"\n".join(json.dumps(aiperf_line(str(index))).encode() for index in range(3))
GENAI_PERF = genai_perf_export(
    [genai_perf_request("p", answers=[(1.0, EVENT), (2.0, b"data: [DONE]\n\n")])]
)

Reads = Callable[[bytes, Path], object]


class Format(NamedTuple):
    """A sample, how it is read (in a folder that may be filled), and whether lines are JSON."""

    sample: bytes
    read: Reads
    of_json: bool = True


def of_file(read: Callable[[Path], object], name: str = "file") -> Reads:
    def from_folder(data: bytes, folder: Path) -> object:
        (folder / name).write_bytes(data)
        return read(folder / name)

    return from_folder


def of_text(read: Callable[[str], object]) -> Reads:
    return lambda data, _folder: read(data.decode(errors="replace"))


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def yaml_of(path: Path) -> bytes:
    """The content of a YAML file as JSON, which is YAML, too."""
    return json.dumps(yaml.safe_load(path.read_text()), default=str).encode()


def convert(path: Path) -> None:
    """What `python -m bench convert` and `compare` make of a folder, but for the writing."""
    for run in read_runs(path.parent).runs:
        if run.entries:
            trial = trial_of(run, "a", "20260131-235959-a1b2")
            judge([trial])
            for one in METRICS.values():
                one.over([trial])
        else:
            judgement_of(run, "a")


def replayed(path: Path) -> None:
    trace = read_trace(path)
    rate_rps = 2 * trace.rate_rps
    Replay(fit_trace(trace, 2048, 300), 0.5).stream(rate_rps, 0.1, np.random.default_rng(1))


def peers_of(path: Path) -> None:
    for peer in load_peers(path).values():
        command_of(peer, Place(1, 2, (Replica("m-0", "m", "http://a:1"),), path.parent / "x"))


def tokenizer_of(data: bytes, folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(data)
    PromptMaker(folder).make(40, 1, "salt")


def engines_of(path: Path) -> None:
    engines = read_engines(path)
    assert engines is not None
    why_unusable(engines, [one.spec for one in engines.replicas], "f")


def ledger_of(path: Path) -> None:
    entries = read_ledger(path, LedgerEntry)
    summary(entries, rule=2)
    page(entries, rule=2)


def stored(name: str) -> tuple[bytes, Reads]:
    """A file of a trial, and how it is read and judged with the others as they were."""
    made = made_trial("control", 0, 0, [*(answered(index, 0.5) for index in range(5)), failed(6)])

    def read(data: bytes, folder: Path) -> None:
        path = TrialStore(folder).save(made)
        changed = path.with_name(path.stem + name)
        facts = json.loads(path.read_text())
        digests = {".parquet": "samples_sha256", ".server.parquet": "server_sha256"}
        if name in digests:
            facts[digests[name]] = digest(data)
            path.write_text(json.dumps(facts))
        changed.write_bytes(data)
        for entry in history([folder]):
            is_complete(entry)
        judge([TrialStore(folder).load(path)])

    return sample_of(made, name), read


def sample_of(made: Any, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = TrialStore(Path(folder)).save(made)
        return path.with_name(path.stem + name).read_bytes().replace(b"\n", b"")


def health_of(kind: Any, answers: dict[str, str]) -> object:
    service = Service(kind, "s", model="m", ready=True, state="running")
    return check(ScriptedOperations((service,), {"s": answers}, {"s": ()}), service)


def body_of(data: bytes, _folder: Path) -> None:
    exchange = Exchange(status=200, headers={"content-type": "text/event-stream"}, complete=True)
    for start in range(0, len(data), 7):
        exchange.add(0.1 * start, data[start : start + 7])
    sample = read_answer(exchange)
    assert sample.output_tokens is None or 0 <= sample.output_tokens < 2**31


def response_of(data: bytes, _folder: Path) -> None:
    exchange = Exchange()
    response = Response(exchange)
    with suppress(ValueError):  # it is not HTTP
        for start in range(0, len(data), 16):
            response.feed(0.1, data[start : start + 16])
    read_answer(exchange)


FORMATS = {
    **{
        f"{path.relative_to(RESULTS)}": Format(
            json.dumps(json.loads(path.read_text())).encode(), of_file(convert, path.name)
        )
        for path in sorted(RESULTS.glob("*/A/1/*.json*"))
        + sorted(RESULTS.glob("vllm-bench-0.30.0/*/A/1/*.json"))
        if not path.name.endswith("profile_export.jsonl")
    },
    **{
        path.name: Format(
            yaml.safe_dump(yaml.safe_load(path.read_text())).encode(),
            of_file(convert, path.name),
            of_json=False,
        )
        for path in sorted(RESULTS.glob("llmd*/*.yaml"))
    },
    "records of aiperf": Format(AIPERF, of_file(aiperf.read_records)),
    "records of genai-perf": Format(as_json(GENAI_PERF), of_file(genai_perf.read_records)),
    "topology": Format(yaml_of(ROOT / "bench" / "topology.yaml"), of_file(load_topology)),
    "objectives": Format(yaml_of(ROOT / "bench" / "slo.yaml"), of_file(load_slos)),
    "endpoints": Format(
        as_json(ENDPOINTS), of_file(lambda path: endpoints_from_file(path, {"KEY": "k"}))
    ),
    "peers": Format(yaml_of(DEFAULT_PEERS), of_file(peers_of)),
    "tokenizer": Format(as_json(TOKENIZER), tokenizer_of),
    "engines that run": Format(as_json(ENGINES), of_file(engines_of)),
    "ledger": Format(b"\n".join(LEDGER.read_bytes().splitlines()[:3]), of_file(ledger_of)),
    "holder of the machine": Format(as_json(SAID), lambda data, _: str(_read(_Holder(), data))),
    "end of a command": Format(as_json(ENDED), lambda data, _: exit_code(data)),
    "trace of Azure": Format(AZURE, of_file(replayed), of_json=False),
    "trace of BurstGPT": Format(BURSTGPT, of_file(replayed), of_json=False),
    "trace of Mooncake": Format(MOONCAKE, of_file(replayed)),
    "facts of a trial": Format(*stored(".json")),
    "samples of a trial": Format(*stored(".parquet"), of_json=False),
    "readings of a trial": Format(*stored(".server.parquet"), of_json=False),
    "noise": Format(
        as_json({"a": [[0.1, 4]]}), of_file(lambda path: NoiseStore(path).remember("a", 0.3, 4))
    ),
    "log": Format(
        (KVCACHED / "vllm-0.30.0.log").read_bytes(),
        of_text(lambda text: read_log(text.splitlines())),
        of_json=False,
    ),
    "kvctl": Format(
        as_json(json.loads((KVCACHED / "kvctl.json").read_text())), of_text(read_segments)
    ),
    "nvidia-smi": Format(b"GPU-1, NVIDIA H100, 100, 81559\n", of_text(read_gpus), of_json=False),
    "tokens": Format(as_json({"choices": [{"logprobs": TOKENS}]}), of_text(read_tokens)),
    "metrics": Format(EXPOSITION, lambda data, _: series_of(data), of_json=False),
    "body of an answer": Format(EVENTS, body_of, of_json=False),
    "answer": Format(STREAM, response_of, of_json=False),
    "health of a balancer": Format(
        as_json(HEALTH),
        of_text(
            lambda text: health_of(
                "balancer", {"/health": text, "/v1/models": text, "/metrics": ""}
            )
        ),
    ),
    "models of an engine": Format(
        as_json({"data": [{"id": "m"}]}),
        of_text(
            lambda text: health_of(
                "engine",
                {
                    "/health": "",
                    "/v1/models": text,
                    "/version": text,
                    "/metrics": EXPOSITION.decode(),
                },
            )
        ),
    ),
}


def series_of(data: bytes) -> None:
    assert all(0 <= value < 2**64 for value in read_series(data, "m").values())


def read_or_refuse(name: str, data: bytes, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    said = "read"
    try:
        FORMATS[name].read(data, folder)
    except UserError as error:
        said = str(error)
    assert said
    assert "\n" not in said
