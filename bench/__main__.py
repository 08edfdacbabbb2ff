"""`python -m bench`."""

from bench.cli.commands import main
from bench.console import run_program

if __name__ == "__main__":
    run_program(main)
