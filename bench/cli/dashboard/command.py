"""Starts Streamlit in this process, which ends with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.config.options import Options
from bench.console import mute
from bench.errors import UserError
from bench.paths import IN_CHECKOUT, PACKAGES
from bench.processes.ports import LOOPBACK, is_free, port_holder

_NEEDED = Path(__file__).with_name("requirements.in")
INSTALL = f"python -m pip install -r {_NEEDED.relative_to(PACKAGES) if IN_CHECKOUT else _NEEDED}"


def dashboard(options: Options, folders: Sequence[str]) -> int:
    """Show stored runs, and the run in progress, in a browser until Ctrl-C."""
    if find_spec("streamlit") is None:
        raise UserError(f"the dashboard needs Streamlit, which is not installed; run {INSTALL}")
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder} is no folder; give folders with results")
    if not is_free(options.port):
        raise UserError(
            f"port {options.port} is in use by {port_holder(options.port)}; give another --port"
        )
    shown = [str(one.absolute()) for one in (options.results, *map(Path, folders))]
    _serve(import_module("bench.cli.dashboard.app").__file__, shown, options.port)
    return 0


def _serve(script: str | None, arguments: list[str], port: int) -> None:
    # Imported here, since Streamlit may be absent.
    bootstrap = import_module("streamlit.web.bootstrap")
    net_util: Any = import_module("streamlit.net_util")
    # It would ask a server outside for this machine's address when a foreign page connects.
    net_util.get_external_ip = lambda: None
    # It says that it stops before it does, and would not if nobody read that any more.
    cli_util: Any = import_module("streamlit.cli_util")
    cli_util.print_to_cli = partial(_say, cli_util.print_to_cli)
    flags = {
        "server_address": LOOPBACK,
        "server_port": port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "browser_gatherUsageStats": False,
        "client_toolbarMode": "minimal",
        "global_developmentMode": False,
    }
    bootstrap.load_config_options(flags)
    bootstrap.run(script, False, arguments, flags)


def _say(say: Callable[..., None], *arguments: Any, **named: Any) -> None:
    try:
        say(*arguments, **named)
    except BrokenPipeError:
        mute(sys.stdout)
