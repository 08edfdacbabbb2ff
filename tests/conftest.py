"""What tests of several packages need."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import hypothesis
import pytest

from bench.cli.pytest_run import shown
from bench.processes.machine import hold_machine
from bench.progress import make_progress

# A busy machine says nothing about a property.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """Python leaves SIGINT alone where it was started in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """This machine, for tests that start engines: they wait for runs that measure on it."""
    with ExitStack() as held:
        with shown(request.config):
            what, progress = f"tests of {request.path.name}", make_progress(sys.__stderr__)
            held.enter_context(hold_machine(what, progress, math.inf))
        yield
