"""Engines on one GPU, started one after another, and what they show when they are up."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.analysis.kvcached import Answer, ArmEvidence, GpuMemory
from bench.environments.answers import await_answers
from bench.environments.cpu_engine.models import made_folder
from bench.environments.kvcached.collecting import Console, ask, look
from bench.environments.kvcached.texts import NVIDIA_SMI, read_gpus
from bench.errors import UserError
from bench.processes.guarded import Guarded, error_in_log
from bench.processes.local import LocalProgram
from bench.processes.ports import LOOPBACK, free_ports
from bench.processes.venv import Venv
from bench.progress import Progress
from bench.records import Replica, Role
from validation.gpu_check.card import EMPTY_GIB, run_here, selected
from validation.gpu_check.greedy_model import NAME, greedy_model_folder
from validation.gpu_check.plan import ENGINE, Shape, engine_command, ipc_name

START_TIMEOUT_S = 600.0
# Engines finish nothing: what they are doing when they are ended is not measured.
_GRACE_S = 20.0
_EMPTY_TIMEOUT_S = 60.0
FIRST_PORT = 8600
_SHARED_MEMORY = Path("/dev") / "shm"
# Config of the engine that makes a model longer than the suite's tiny ones.
_LONGEST = {"max_position_embeddings": 32768}


@dataclass(frozen=True, slots=True)
class Up:
    """Engines of an arm that are up. `evidence` is None where no GPU is theirs.

    `consoles` are those of engines on a GPU.
    """

    replicas: tuple[Replica, ...]
    tokenizers: Mapping[str, Path]
    evidence: ArmEvidence | None = None
    consoles: tuple[Console, ...] = ()


class Source(Protocol):
    """Where engines come from. `note` is said at the top of the report; empty for a GPU."""

    name: str
    note: str

    def up(self, role: Role) -> AbstractContextManager[Up]:
        """New engines of an arm, which are ended with the context. Raises UserError."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What is measured on, as JSON values."""
        ...


class GpuSource(Source):
    """Engines with random weights that share a GPU."""

    name = "gpu"
    note = ""

    def __init__(
        self,
        venv: Venv,
        vllm: str,
        shapes: Sequence[Shape],
        card: tuple[int, GpuMemory],
        cache: Path,
        logs: Path,
        progress: Progress,
    ) -> None:
        self._venv = venv
        self._vllm = vllm
        self._number, self._card = card
        self._logs = logs
        self._progress = progress
        self._folders = {
            one.name: made_folder(one.architecture, cache, {**_LONGEST, **one.sizes})
            for one in shapes
        }
        self._greedy_model = greedy_model_folder(cache)
        self._answers = dict[Role, tuple[tuple[Answer, ...], tuple[str, ...]]]()
        self._starts = 0

    def facts(self) -> Mapping[str, Any]:
        return {
            "gpu": self._card.name,
            "gpu_memory_gib": self._card.total_gib,
            "vllm": self._vllm,
            "weights": "random, of real shapes",
            "cpu_cores": len(os.sched_getaffinity(0)),
        }

    @contextmanager
    def up(self, role: Role) -> Iterator[Up]:
        """One engine after the other: each measures what is free of the GPU when it starts."""
        self._starts += 1
        if role not in self._answers:
            self._answers[role] = self._ask(role)
        self._await_empty()
        with ExitStack() as engines:
            started = [
                self._start(name, folder, role, engines) for name, folder in self._folders.items()
            ]
            consoles = tuple(console for console, _ in started)
            with self._progress.step(f"looking at the engines of {role}") as step:
                wanted = role == "treatment"
                shown = look(consoles, step) if wanted else ()
            share = ENGINE.gpu_memory_utilization
            evidence = ArmEvidence(wanted, share, shown, *self._answers[role])
            replicas = tuple(replica for _, replica in started)
            yield Up(replicas, self._folders, evidence, consoles)

    def _ask(self, role: Role) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
        """Greedy answers of an engine of that arm that has the GPU for itself."""
        self._await_empty()
        with ExitStack() as engines:
            console, _ = self._start(NAME, self._greedy_model, role, engines)
            with self._progress.step(f"greedy answers ({role})") as step:
                return ask([console], step)

    def _start(
        self, name: str, folder: Path, role: Role, engines: ExitStack
    ) -> tuple[Console, Replica]:
        """Start an engine, which is ended with `engines`; return when it has answered."""
        with suppress(FileNotFoundError):  # what an engine that was killed has left
            (_SHARED_MEMORY / ipc_name(name)).unlink()
        port = next(free_ports(FIRST_PORT, ()))
        log = self._logs / f"{self._starts}-{role}-{name}.log"
        command = engine_command(self._venv.python, self._vllm, name, folder, port, role)
        process = Guarded(["env", *selected(self._number), *command], log=log, grace_s=_GRACE_S)
        engines.callback(process.terminate)

        def check_alive() -> None:
            if process.poll() is not None:
                raise UserError(f"{name} died at start: {error_in_log(log)}; see {log}")

        replica = Replica(name, name, f"http://{LOOPBACK}:{port}")
        with self._progress.step(f"starting {name} ({role})") as step:
            asyncio.run(await_answers([replica], step, START_TIMEOUT_S, check_alive))
        return self._console(name, port, log), replica

    def _console(self, name: str, port: int, log: Path) -> Console:
        def lines() -> list[str]:
            return log.read_text(encoding="utf-8", errors="replace").splitlines()

        place = f"GPU {self._number}"
        programs = (self._run, self._start_program)
        return Console(name, name, ipc_name(name), port, place, lines, *programs)

    def _run(self, command: Sequence[str]) -> str:
        """Run a command with the programs of the engines' environment, and for this GPU alone."""
        return run_here(self._for_gpu(command), {"PATH": self._path})

    def _start_program(self, command: Sequence[str]) -> LocalProgram:
        return LocalProgram(["env", f"PATH={self._path}", *self._for_gpu(command)])

    def _for_gpu(self, command: Sequence[str]) -> Sequence[str]:
        return [*command, "-i", str(self._number)] if NVIDIA_SMI[0] in command else command

    @property
    def _path(self) -> str:
        return f"{self._venv.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    def _await_empty(self) -> None:
        """Return when the GPU is empty, which is a while after its last engine has ended."""
        end_s = time.monotonic() + _EMPTY_TIMEOUT_S
        while (used := read_gpus(self._run(NVIDIA_SMI))[0].used_gib) > EMPTY_GIB:
            if time.monotonic() > end_s:
                raise UserError(
                    f"{used:.1f} GiB of GPU {self._number} are in use, though no engine of "
                    "gpu-check runs: end what runs there (nvidia-smi lists it)"
                )
            time.sleep(1.0)
