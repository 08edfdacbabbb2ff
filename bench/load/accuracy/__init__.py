"""Measures the error of the client's timings against a synthetic source.

The source is no engine: it tests programs that read it, such as the load generator, and its
numbers are never results.
"""
