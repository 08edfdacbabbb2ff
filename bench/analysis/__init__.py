"""Metrics, paired comparison and verdict: pure functions, no clock, no input or output."""
