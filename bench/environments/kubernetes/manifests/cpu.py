"""Engines on CPUs: the same arguments and variables as in environment `local`."""

from __future__ import annotations

from bench.config.topology import EngineEntry, Model
from bench.environments.cpu_engine.flags import ENGINE_VARIABLES, engine_arguments
from bench.environments.kubernetes.manifests.spec import (
    EngineSpec,
    Volume,
    memory,
    node_folder,
    scratch,
    variable,
)

IMAGE = "llm-bench-engine-cpu"
# Where the image has the tiny models, one folder for each architecture.
TINY_MODELS = "/opt/models"
OWN_MODEL = "/model"
USER = 65532


def cpu_engine(model: Model, engine: EngineEntry, version: str) -> EngineSpec:
    """An engine of a tiny model, or of a folder that the nodes have."""
    folder = OWN_MODEL if model.architecture is None else f"{TINY_MODELS}/{model.architecture}"
    variables = {
        **ENGINE_VARIABLES,
        "HOME": "/tmp",
        "HF_HOME": "/tmp/huggingface",
        "VLLM_CACHE_ROOT": "/tmp/vllm",
    }
    return EngineSpec(
        image=f"{IMAGE}:{version}",
        command=(),
        arguments=engine_arguments(model, folder, engine),
        variables=[variable(name, value) for name, value in variables.items()],
        # One core at most, as environment `local` pins them. A tiny model takes 1.1 GiB, and
        # asks for little, so that six fit a laptop.
        requests={"cpu": "250m", "memory": "1280Mi"},
        limits={"cpu": "1", "memory": "2Gi"},
        user=USER,
        group=USER,
        volumes=[memory("shm", "/dev/shm", "256Mi"), scratch("tmp", "/tmp", "1Gi"), *_own(model)],
    )


def _own(model: Model) -> list[Volume]:
    if model.path is None:
        return []
    return [node_folder("model", OWN_MODEL, str(model.path), read_only=True)]
