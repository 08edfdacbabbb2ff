"""Starts Streamlit in this process, which ends with it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from bench.config.options import Options
from bench.errors import UserError

_ADDRESS = "127.0.0.1"
INSTALL = 'pip install ".[dashboard]"'


def dashboard(options: Options, folders: Sequence[str]) -> int:
    """Show stored runs, and the run in progress, in a browser until Ctrl-C."""
    if find_spec("streamlit") is None:
        raise UserError(f"the dashboard needs Streamlit, which is not installed; run {INSTALL}")
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder} is no folder; give folders with results")
    _require_free(options.port)
    shown = [str(Path(one).absolute()) for one in (options.results, *folders)]
    _serve(import_module("bench.cli.dashboard.app").__file__, shown, options.port)
    return 0


def _require_free(port: int) -> None:
    """Raise UserError unless the port can be listened on."""
    try:
        with socket.create_server((_ADDRESS, port)):
            pass
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on {_ADDRESS}:{port}: {why}; give another --port"
        ) from error


def _serve(script: str | None, arguments: list[str], port: int) -> None:
    bootstrap = import_module("streamlit.web.bootstrap")
    # It would ask a server outside for this machine's address when a foreign page connects.
    import_module("streamlit.net_util").get_external_ip = lambda: None
    flags = {
        "server_address": _ADDRESS,
        "server_port": port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "browser_gatherUsageStats": False,
        "client_toolbarMode": "minimal",
        "global_developmentMode": False,
    }
    bootstrap.load_config_options(flags)
    bootstrap.run(script, False, arguments, flags)
