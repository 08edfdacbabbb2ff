"""`python -m tests.docs.collecting`: which tests of scenarios pytest would run.

Reads a list of lists of arguments as JSON, and writes for each the exit code and what was said.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest

from bench.cli.scenarios import SCENARIOS


def main() -> None:
    """Collect for each list of arguments, in this process: imports take longer than all else."""
    found = []
    for arguments in json.load(sys.stdin):
        said = StringIO()
        options = ("--collect-only", "-q", "-p", "no:cacheprovider")
        with redirect_stdout(said), redirect_stderr(said):
            code = pytest.main([*arguments, *options, str(SCENARIOS)])
        found.append((int(code), said.getvalue()))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
