"""What went wrong, according to the log of an engine. Pure functions."""

from __future__ import annotations

import re

from bench.environments.kubernetes.objects import one_line

_REPOSITORY = re.compile(r"https://huggingface\.co/(?:api/models/)?([\w.-]+/[\w.-]+)")
# `ValueError: ...`, also after vLLM's prefix: `(EngineCore pid=42) ERROR ... [core.py:9]`.
_EXCEPTION = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Exit): .*)")
# The last line of a shell or of Python that could not start a program.
_NOT_STARTED = re.compile(
    r"error: |cannot |fatal|panic: |No module named|No such file", re.IGNORECASE
)
# Only points to another line, which has the reason.
_REFERS_ELSEWHERE = re.compile(
    r"Engine core initialization failed|See (?:root cause|stack trace) above|process .* died|"
    r"For more information check"
)

# Patterns and what they mean; the first one that is found counts.
_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (
            r"not in the authorized list|403 Client Error[^\n]*(?:\n+[^\n]*){0,2}gated repo",
            "Hugging Face refuses {repository} (403): the account of HF_TOKEN has not been given "
            "access; ask for it on the model's page",
        ),
        (
            r"gated repo|is restricted. You must",
            "Hugging Face refuses {repository} (401): it is gated, and HF_TOKEN of the Secret "
            "hf-token is missing or wrong",
        ),
        (
            r"Invalid user token|Invalid credentials in Authorization header|"
            r"401 Client Error: Unauthorized for url: https://huggingface|RepositoryNotFoundError",
            "Hugging Face refuses {repository} (401): HF_TOKEN of the Secret hf-token is not "
            "valid, or there is no such model",
        ),
        (
            r"403 Client Error: Forbidden for url: https://huggingface",
            "Hugging Face refuses {repository} (403): HF_TOKEN may not read it",
        ),
        (
            r"LocalEntryNotFoundError|We couldn't connect to 'https://huggingface\.co'|"
            r"Max retries exceeded with url: [^\n]*huggingface",
            "Hugging Face cannot be reached, and the model is not in the node's cache",
        ),
        (
            r"Free memory on device [^\n]*less than desired GPU memory utilization",
            "the GPU's memory is held by something else",
        ),
        (
            r"larger than the (?:maximum number of tokens|available KV cache memory)|"
            r"No available memory for the cache blocks",
            "the GPU's memory does not suffice for the KV cache: lower max_model_len, or raise "
            "gpu_memory_utilization",
        ),
        (r"CUDA out of memory|CUDA error: out of memory", "the GPU's memory does not suffice"),
        (
            r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver",
            "the container sees no GPU: is the NVIDIA runtime set up on the node?",
        ),
        (r"No space left on device|Disk quota exceeded", "the disk or a memory volume is full"),
        (
            r"Permission denied: '(?:/root)?/[^\n']*(?:cache|huggingface)",
            "the model cache of the node may not be written by the engine's user",
        ),
    )
)


def log_reason(log: str) -> str | None:
    """What is wrong and what to do, for texts of engines that are known; else None."""
    for pattern, meaning in _KNOWN:
        if pattern.search(log):
            found = _REPOSITORY.search(log)
            repository = found[1].rstrip(".") if found else "the model"
            return meaning.format(repository=repository)
    return None


def error_line(log: str) -> str:
    """The line of a log that best says what went wrong; empty if the log is empty."""
    lines = [line for line in map(str.strip, log.splitlines()) if line]
    errors = [found[1] for line in lines if (found := _EXCEPTION.search(line))]
    reasons = [error for error in errors if not _REFERS_ELSEWHERE.search(error)]
    not_started = [line for line in lines if _NOT_STARTED.search(line)]
    for candidates in (reasons, errors, not_started, lines):
        if candidates:
            return one_line(candidates[-1])
    return ""
