"""Recorded traffic: read from a user's file, fitted to an engine, replayed in its own shape."""

from bench.load.plan.traces.files import WHOLE, Cut, parse_cut, read_trace
from bench.load.plan.traces.replay import Fit, Replay, ReplayedLengths, fit_trace
from bench.load.plan.traces.trace import Trace, TraceRequest

__all__ = [
    "WHOLE",
    "Cut",
    "Fit",
    "Replay",
    "ReplayedLengths",
    "Trace",
    "TraceRequest",
    "fit_trace",
    "parse_cut",
    "read_trace",
]
