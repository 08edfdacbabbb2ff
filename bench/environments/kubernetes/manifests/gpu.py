"""Engines on GPUs, with weights of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.config.topology import GpuEngineEntry, Model
from bench.environments.kubernetes.manifests.spec import (
    VLLM_VERSION,
    EngineSpec,
    memory,
    node_folder,
    scratch,
    variable,
)

IMAGE, TAG = "vllm/vllm-openai", f"v{VLLM_VERSION}"
KVCACHED_IMAGE = "ghcr.io/ovg-project/kvcached-vllm"
KVCACHED_TAG = f"kvcached-v0.1.6-vllm-v{VLLM_VERSION}"
# The user `vllm` of these images, whose files are in group 0.
USER, GROUP = 2000, 0
HOME = "/home/vllm"
MODEL_CACHE = "/mnt/model-cache/huggingface"
TOKEN_SECRET, TOKEN_KEY = "hf-token", "HF_TOKEN"


def gpu_engine(model: Model, engine: GpuEngineEntry) -> EngineSpec:
    """An engine of a model of the hub."""
    gpus = {"nvidia.com/gpu": str(model.gpus)}
    token = {"secretKeyRef": {"name": TOKEN_SECRET, "key": TOKEN_KEY}}
    return EngineSpec(
        image=f"{IMAGE}:{TAG}",
        # As in the image. That with KVCached is made from it, but has a shell in its place.
        command=("vllm", "serve"),
        arguments=gpu_arguments(model, engine),
        variables=[
            variable("HOME", HOME),
            variable("HF_HOME", MODEL_CACHE),
            {"name": "HF_TOKEN", "valueFrom": token},
            variable("VLLM_NO_USAGE_STATS", "1"),
        ],
        # So that an engine fits the smallest node that has such a GPU (4 CPUs, 16 GB), and is
        # not throttled on a larger one.
        requests={"cpu": "2", "memory": "10Gi", **gpus},
        limits={"cpu": "8", "memory": "32Gi", **gpus},
        user=USER,
        group=GROUP,
        volumes=[
            memory("shm", "/dev/shm", "2Gi"),
            scratch("tmp", "/tmp", "4Gi"),
            scratch("home", HOME, "16Gi"),
            node_folder("model-cache", MODEL_CACHE, MODEL_CACHE),
        ],
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    )


def gpu_arguments(model: Model, engine: GpuEngineEntry) -> tuple[str, ...]:
    """Arguments of `vllm serve`, apart from its address."""
    assert model.hub is not None
    arguments = [
        model.hub,
        *("--served-model-name", model.name),
        *("--max-model-len", str(engine.max_model_len)),
        *("--gpu-memory-utilization", _share(engine)),
        *("--max-num-seqs", str(engine.max_num_seqs)),
    ]
    if model.gpus > 1:
        arguments += ["--tensor-parallel-size", str(model.gpus)]
    return (*arguments, "--disable-uvicorn-access-log")


def kvcached_variables(engine: GpuEngineEntry) -> tuple[Mapping[str, Any], ...]:
    """What turns KVCached on, with as much memory and prefix cache as vLLM has without."""
    pod = {"fieldRef": {"fieldPath": "metadata.name"}}
    return (
        variable("ENABLE_KVCACHED", "true"),
        variable("KVCACHED_AUTOPATCH", "1"),
        # The image has one name for all, which engines that see each other must not share.
        {"name": "KVCACHED_IPC_NAME", "valueFrom": pod},
        variable("KVCACHED_GPU_UTILIZATION", _share(engine)),
        # No bound but room; by default prefixes of 16,000 tokens stay cached at most.
        variable("KVCACHED_MAX_CACHED_TOKENS", "-1"),
    )


def _share(engine: GpuEngineEntry) -> str:
    return f"{engine.gpu_memory_utilization:g}"
