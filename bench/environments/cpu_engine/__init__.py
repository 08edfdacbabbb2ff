"""What engines on CPUs are given, wherever they run: model folders, arguments, variables.

The engine's image makes its model folders with this package and vLLM's own dependencies:
nothing here needs more than pydantic, PyYAML and tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.config.topology import EngineEntry, Model

MIB = 1024**2

# For replicas that have one core each.
ENGINE_VARIABLES: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else the executor is never "uni"
    # With eager execution only the sampler is compiled: seconds within a replica's
    # first requests and again when a batch of another size comes, a C++ compiler
    # needed, and with tiny vocabularies 6 % fewer tokens per second. (With 128k
    # tokens it would save 20 ms of each step of 16 sequences.)
    "TORCHDYNAMO_DISABLE": "1",
}


def engine_arguments(model: Model, folder: str, engine: EngineEntry) -> tuple[str, ...]:
    """Arguments of vLLM's server for a model in `folder`; host and port are not among them."""
    arguments = [
        *("--model", folder),
        *("--served-model-name", model.name),
        *("--max-model-len", str(engine.max_model_len)),
        *("--max-num-seqs", str(engine.max_num_seqs)),
        *("--kv-cache-memory-bytes", str(engine.kv_cache_mib * MIB)),
        # One process per engine, started by its server.
        *("--distributed-executor-backend", "uni"),
        "--enforce-eager",
        "--disable-uvicorn-access-log",
    ]
    if model.random_weights:
        arguments += ["--load-format", "dummy"]
    return tuple(arguments)
