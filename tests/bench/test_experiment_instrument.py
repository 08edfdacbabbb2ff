"""What a trial holds of the instrument: from the run's start, and from beside the load."""

from __future__ import annotations

from pathlib import Path

from bench.drivers.builtin import BuiltinDriver
from bench.records import Trial
from tests.bench.experimenting import SITE, Served, experiment, question, replica
from tests.bench.making import INSTRUMENT


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
