"""The vLLM part of the host: what to import before the fork, and one server after it.

Import it once the environment variables that vLLM and torch read at import are set.
"""

from __future__ import annotations

import gc
import importlib
import os
from pathlib import Path
from typing import Any

import uvloop
from vllm.entrypoints.launchers.api_server.entry import run_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.model_executor.models import registry
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.system_utils import set_process_title

from .replicas import ReplicaSpec

LOOPBACK = "127.0.0.1"

# The rest of what a server has imported by the time it has answered its first
# request (found with an audit hook on `import`): what is imported here costs once, later
# imports cost once a replica.
MODULES = Path(__file__).with_name("modules.txt").read_text(encoding="utf-8").split()


def preload() -> None:
    """Import all that a server needs. Must leave a single thread, or forking is unsafe."""
    for name in MODULES:
        importlib.import_module(name)
    _fork_instead_of_spawning()
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, shared pages


def _fork_instead_of_spawning() -> None:
    """Let a server fork its engine process, and look at model classes in place.

    vLLM's CPU platform always asks for fresh interpreters, because it sets the thread
    libraries up through their environment. Here one thread per replica is set before
    the import, so that a fork is as good and takes no time.
    """
    platform = type(current_platform)
    check_and_update_config = platform.check_and_update_config

    def check_then_fork(config: Any) -> None:
        check_and_update_config(config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    cli_env_setup()
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    platform.check_and_update_config = staticmethod(check_then_fork)
    registry._run_in_subprocess = lambda inspect: inspect()


def serve(spec: ReplicaSpec) -> None:
    """Serve as `python -m vllm.entrypoints.openai.api_server` would, until SIGTERM."""
    set_process_title(spec.name)
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(
        [*spec.argv, "--host", LOOPBACK, "--port", str(spec.port)]
    )
    validate_parsed_serve_args(args)
    uvloop.run(run_server(args))
