"""Trials and results on disk."""

from bench.store.results import NoiseStore, results_json, write_latest
from bench.store.trials import TrialStore, by_scenario

__all__ = ["NoiseStore", "TrialStore", "by_scenario", "results_json", "write_latest"]
