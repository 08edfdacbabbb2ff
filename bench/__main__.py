"""`python -m bench`."""

from typing import NoReturn

from bench.cli.commands import main
from bench.console import run_program


def run() -> NoReturn:
    """The program `llm-ab-bench`."""
    run_program(main)


if __name__ == "__main__":
    run()
