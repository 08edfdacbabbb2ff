"""What tests of the store have in common."""

from pathlib import Path

import pytest

from bench.records import Trial
from bench.store import TrialStore
from tests.bench.making import answered, failed, trial


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    return TrialStore(tmp_path / "results")


@pytest.fixture
def one() -> Trial:
    return trial("control", 0, 0, [answered(0, 0.5), failed(1)])
