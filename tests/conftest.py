"""What tests of several packages need."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import hypothesis
import pytest

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
