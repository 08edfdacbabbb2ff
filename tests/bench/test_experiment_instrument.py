"""What is measured around a trial: the instrument, what others did, and the replicas' capacity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.drivers.builtin import BuiltinDriver
from bench.records import Trial
from tests.bench.experimenting import SITE, Served, experiment, question, replica
from tests.bench.making import INSTRUMENT

pytestmark = [pytest.mark.slow, pytest.mark.serial]


def stored(serving: tuple[int, ...] | None, folder: Path) -> Trial:
    """The first trial of a question, as it is read back; where others disturb it, more follow."""
    with replica() as url:
        made = experiment(Served(url, serving), BuiltinDriver(SITE), folder)
        made.run(question())
    return made.context.store.load_run()[0]


def test_a_trial_holds_the_accuracy_of_the_start_and_what_others_did(tmp_path: Path) -> None:
    instrument = stored((), tmp_path).instrument
    assert instrument.accuracy == INSTRUMENT.accuracy
    assert instrument.foreign_cpu_share is not None
    assert 0 <= instrument.foreign_cpu_share <= 1
    assert instrument.stolen_cpu_share is not None


def test_where_engines_run_elsewhere_what_others_did_is_unknown(tmp_path: Path) -> None:
    instrument = stored(None, tmp_path).instrument
    assert instrument.foreign_cpu_share is None
    assert instrument.stolen_cpu_share is not None


def test_replicas_that_run_many_sequences_at_once_are_filled(tmp_path: Path) -> None:
    """As on a GPU, where more requests are in flight than warm a small replica."""
    with replica() as url:
        calibration = experiment(Served(url, ()), BuiltinDriver(SITE), tmp_path).context.calibration
        many = replace(calibration, max_num_seqs=64)
        capacity = many.capacity(question().scenario.workload, question().models)
    assert capacity.max_num_seqs == 64
    # The scripted server answers each request within 20 ms, however many come at once.
    assert capacity.rps > 4 / 0.02
