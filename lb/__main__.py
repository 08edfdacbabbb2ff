"""`python -m lb`: start a balancer from the command line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from lb.errors import UserError
from lb.http.descriptors import raise_limit
from lb.http.endpoint import authority
from lb.observability.logs import RepeatFilter
from lb.options import make_parser
from lb.policies import POLICIES
from lb.processes.listening import listen_for
from lb.processes.server import serve
from lb.settings import settings_from

logger = logging.getLogger("lb")


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until a signal. Returns 2, after one line on stderr, if it could not start."""
    try:
        options = make_parser().parse_args(argv)
        settings = settings_from(options, environ)
        port = POLICIES[settings.policy].default_port if options.port is None else options.port
        raise_limit()
        listeners = listen_for(options.host, port, options.workers, reuse_port=options.reuse_port)
    except UserError as error:
        print(f"lb: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    logger.addFilter(RepeatFilter())
    # httpx would log each request to the Kubernetes API.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logger.info(
        "%s with %d worker%s on http://%s",
        settings.policy,
        options.workers,
        "s" if options.workers > 1 else "",
        authority(options.host, listeners[0][0].getsockname()[1]),
    )
    serve(settings, listeners)
    return 0


def _flush() -> None:
    """Write what is left of --help; a reader that has gone, as in `... | head`, is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run() -> NoReturn:
    """The program `lb`."""
    try:
        sys.exit(main(sys.argv[1:], os.environ))
    finally:
        _flush()


if __name__ == "__main__":
    run()
