"""What is measured on a GPU: models, their room, requests, order and commands. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from bench.analysis.blocks import order
from bench.config.memory import Footprint, Gpu, Room, equal_share, rooms
from bench.config.topology import Architecture, GpuEngineEntry, KvShape
from bench.environments.containers.engine import kvcached_variables
from bench.errors import UserError
from bench.load.plan.arrivals import OfModels, OpenLoop, Peaks, Poisson
from bench.load.plan.schedule import plan_open_loop
from bench.load.plan.workload import Fixed, LogNormal, Workload
from bench.records import Expectation, Role, ScenarioFacts, Schedule, Slo

SHAPES = Path(__file__).with_name("shapes.yaml")
ARMS: Mapping[Role, str] = {"control": "static", "treatment": "kvcached"}
# Every arm is up in two of the four turns, each time with new engines.
ORDER = order(0)
# So many sequences at once that memory is what limits them.
ENGINE = GpuEngineEntry(max_num_seqs=1024)
METRICS = (
    *("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s"),
    *("goodput_rps", "output_tps", "error_rate"),
)
# Of MLPerf's server scenario for Llama 3.1 8B.
SLO = Slo(ttft_s=2.0, tpot_s=0.1)
GIB = 2**30
# Engines are sized so that a peak is at least so many requests.
LEAST_IN_PEAK = 6
# What an engine takes to start, and to show what it has; estimates, for the plan alone.
START_S, PROOF_S, WARM_S = 55.0, 15.0, 10.0
# How many share the GPU.
ENGINES = 3
# So many requests have the mean of a workload, since their lengths are stratified.
_ASKS = 1000


@dataclass(frozen=True, slots=True)
class Shape:
    """A model to make: entries of its config.json by `sizes`."""

    name: str
    architecture: Architecture
    sizes: Mapping[str, Any]

    @property
    def footprint(self) -> Footprint:
        """What an engine of it takes in bfloat16."""
        weights_gib = 2 * _parameters(self.sizes) / GIB
        heads, head_dim = self.sizes["num_key_value_heads"], self.sizes["head_dim"]
        kv = KvShape(self.sizes["num_hidden_layers"], heads, head_dim)
        return Footprint(weights_gib, kv.token_bytes)


@dataclass(frozen=True, slots=True)
class Load:
    """A part of each turn. Each model is sent requests of `share` of its static KV cache in all.

    Of `arrival` only the times count.
    """

    name: str
    about: str
    arrival: OpenLoop | OfModels
    share: float
    primary: str

    def facts(self, models: Sequence[str]) -> ScenarioFacts:
        """What trials of it are stored with."""
        return ScenarioFacts(
            name=self.name,
            primary=self.primary,
            metrics=(self.primary, *(one for one in METRICS if one != self.primary)),
            expect=Expectation.NOT_WORSE,
            slos=dict.fromkeys(models, SLO),
            description=self.about,
        )


LOADS = (
    Load(
        "staggered-peaks",
        "each model in turn is sent 1.5 times what its static KV cache holds",
        Peaks(load=1.0, low=0.0),
        1.5,
        "ttft_p95_s",
    ),
    Load(
        "simultaneous-peaks",
        "the same peaks, all at once: no engine has anything to lend (negative control)",
        Peaks(load=1.0, low=0.0, together=True),
        1.5,
        "ttft_p95_s",
    ),
    Load(
        "half-load",
        "half of what the static KV caches hold, spread evenly: nothing is short (overhead "
        "control)",
        Poisson(load=1.0),
        0.5,
        "tpot_p50_s",
    ),
)
REQUESTS = Workload(prompt=Fixed(2048), output=LogNormal(400, 0.7, 64, 1536))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, wherever engines come from.

    `static_tokens` is by model what its KV cache holds in a static split. `loads` follow each other
    in each turn, `duration_s` each, and then up to `drain_s` until the last answer.
    """

    static_tokens: Mapping[str, int]
    workload: Workload = REQUESTS
    loads: tuple[Load, ...] = LOADS
    duration_s: float = 20.0
    drain_s: float = 60.0
    seed: int = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order of their peaks."""
        return tuple(self.static_tokens)

    def requests(self, load: Load) -> Mapping[str, int]:
        """By model: how many requests it is sent."""
        mean = mean_tokens(self.workload)
        return {
            model: max(1, round(load.share * tokens / mean))
            for model, tokens in self.static_tokens.items()
        }

    def schedule(self, load: Load, turn: int) -> Schedule:
        """The requests of a turn, from 0. The first and the second turn of each arm are alike."""
        which = ORDER[:turn].count(ORDER[turn])
        counts = self.requests(load)
        return plan_open_loop(
            seed=self.seed + which,
            rates_rps={model: count / self.duration_s for model, count in counts.items()},
            workload=self.workload,
            arrival=load.arrival,
            duration_s=self.duration_s,
        )

    def minutes(self) -> float:
        """How long it takes, estimated, with half of the drain."""
        loads_s = len(self.loads) * (self.duration_s + self.drain_s / 2)
        turn_s = len(self.models) * START_S + PROOF_S + WARM_S + loads_s
        # In the first turn of each arm one more engine gives greedy answers.
        return (len(ORDER) * turn_s + len(ARMS) * START_S) / 60


@dataclass(frozen=True, slots=True)
class Sized:
    """Models that fit a GPU three at a time, and the room of each."""

    shapes: tuple[Shape, ...]
    rooms: tuple[Room, ...]

    def plan(self) -> Plan:
        """What is measured with them."""
        rooms_of = zip(self.shapes, self.rooms, strict=True)
        return Plan({shape.name: room.static_tokens for shape, room in rooms_of})


def mean_tokens(workload: Workload) -> int:
    """The mean length of a request, prompt and answer together."""
    asks = workload.draw(_ASKS, np.random.default_rng(0))
    return round(fmean(ask.prompt_tokens + ask.output_tokens for ask in asks))


def known_shapes() -> tuple[tuple[Shape, ...], ...]:
    """The sets of models of shapes.yaml, the largest first."""
    known = yaml.safe_load(SHAPES.read_text(encoding="utf-8"))
    return tuple(
        tuple(Shape(name, **entry) for name, entry in models.items()) for models in known.values()
    )


def fitting(memory_gib: float) -> Sized:
    """The largest models that a GPU of `memory_gib` has room for, with a peak of some requests.

    Raises UserError, with the arithmetic, if none has.
    """
    gpu = Gpu(memory_gib, ENGINE.gpu_memory_utilization, ENGINE.reserve_gib)
    for shapes in known_shapes():
        found = rooms(gpu, [shape.footprint for shape in shapes])
        if min(room.static_tokens for room in found) * 1.5 >= LEAST_IN_PEAK * mean_tokens(REQUESTS):
            return Sized(shapes, found)
    footprints = [shape.footprint for shape in shapes]
    share = equal_share(gpu.utilization, len(shapes))
    worst = max(one.need_gib(gpu, LEAST_IN_PEAK * mean_tokens(REQUESTS)) for one in footprints)
    raise UserError(
        f"the GPU has {memory_gib:.1f} GiB, of which each of {len(shapes)} engines gets "
        f"{share * memory_gib:.1f} in a static split; the smallest models need {worst:.1f}: take a "
        "larger GPU"
    )


def engine_command(
    python: Path, vllm: str, model: str, folder: Path, port: int, role: Role
) -> list[str]:
    """The command of one of three engines of an arm, with that version of vLLM.

    Weights are read from the folder if it has any, else random ones are made.

    The arms differ in the share of the GPU that it may take. With KVCached that is the bound of an
    elastic cache; the share of a static split would make it static again.
    """
    elastic = role == "treatment"
    utilization = ENGINE.gpu_memory_utilization
    share = utilization if elastic else equal_share(utilization, ENGINES)
    weights = "auto" if any(folder.glob("*.safetensors")) else "dummy"
    return [
        *("env", *(f"{name}={value}" for name, value in variables(model, role, vllm).items())),
        *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder), "--served-model-name", model),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--load-format", weights, "--seed", "0", "--no-enable-prefix-caching"),
        *("--max-model-len", str(ENGINE.max_model_len)),
        *("--max-num-seqs", str(ENGINE.max_num_seqs)),
        *("--gpu-memory-utilization", f"{share:g}"),
        "--disable-uvicorn-access-log",
    ]


def variables(engine: str, role: Role, vllm: str) -> Mapping[str, str]:
    """The variables of an engine: for KVCached in one arm, against it in the other.

    KVCached 0.1.6 takes vLLM's second model runner from 0.28 on, and no other from 0.29 on; before,
    it needs the first. Both arms have the same.
    """
    common = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if tuple(map(int, vllm.split(".")[:2])) < (0, 28):
        common["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    if role == "control":
        return {**common, "ENABLE_KVCACHED": "false", "KVCACHED_AUTOPATCH": "0"}
    return {**common, **kvcached_variables(ENGINE), "KVCACHED_IPC_NAME": ipc_name(engine)}


def ipc_name(engine: str) -> str:
    """The name that KVCached has for an engine."""
    return "gpucheck_" + "".join(one if one.isalnum() else "_" for one in engine)


def _parameters(sizes: Mapping[str, Any]) -> int:
    """How many weights a model has, but for norms and biases, less than a thousandth of them."""
    hidden, heads, head_dim = (
        sizes[name] for name in ("hidden_size", "num_attention_heads", "head_dim")
    )
    attention = 2 * hidden * head_dim * (heads + sizes["num_key_value_heads"])
    layer = attention + 3 * hidden * sizes["intermediate_size"]
    embeddings = 1 if sizes.get("tie_word_embeddings") else 2
    return int(embeddings * sizes["vocab_size"] * hidden + sizes["num_hidden_layers"] * layer)
