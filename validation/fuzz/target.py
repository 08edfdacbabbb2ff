"""`python -m validation.fuzz.target TEST [ARGUMENT ...]`: one property test, driven by libFuzzer.

The arguments are libFuzzer's own. A file among them is run once, which replays it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import atheris
import pytest

# What is imported after this is instrumented, so nothing of these may be imported above.
PACKAGES = ["lb", "bench", "reports", "validation"]
_PADDED = 8192


class _Driver:
    """Lets libFuzzer choose what a test draws. Fixtures and parameters come from pytest."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> None:
        handle = pyfuncitem.function.hypothesis
        test = handle.inner_test
        wanted = inspect.signature(pyfuncitem.function).parameters
        given = {name: pyfuncitem.funcargs[name] for name in wanted}

        # Of the same name and source: Hypothesis keeps a failure where pytest finds it again.
        @functools.wraps(test)
        def with_fixtures(**drawn: Any) -> None:
            test(**given, **drawn)

        handle.inner_test = with_fixtures
        pyfuncitem.function.__signature__ = inspect.Signature()  # nothing is left to be given
        run = handle.fuzz_one_input
        # Zeros are each strategy's simplest choice, so that no input is too short to be a test.
        atheris.Setup([sys.argv[0], *self._arguments], lambda data: run(data.ljust(_PADDED, b"\0")))
        atheris.Fuzz()  # ends the process


def main(test: str, *arguments: str) -> int:
    """pytest's exit code, where it does not come as far as the test."""
    with atheris.instrument_imports(include=PACKAGES):
        return int(pytest.main(["-q", "-s", "--no-header", test], plugins=[_Driver(arguments)]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
